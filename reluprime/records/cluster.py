"""Ray, for searches and sweeps on several machines: the extra ``cluster``."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch

RETRIES = 3  # of a call whose worker died


def connect(device: str | torch.device | None = None) -> dict[str, int]:
    """Join the cluster at RAY_ADDRESS, or start Ray on this machine; once a process.

    Returns what one task asks for: a CPU, and a GPU if the nodes have any and `device` is not a
    CPU. Ray's own reports of its usage are off. Raises ImportError where Ray is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is missing: pip install -e '.[cluster]' in the clone") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="warning")  # reads RAY_ADDRESS itself
    wanted = device is None or torch.device(device).type == "cuda"
    return {"cpu": 1, "gpu": 1} if wanted and "GPU" in ray.cluster_resources() else {"cpu": 1}


def run(
    function: Callable,
    arguments: Iterable[tuple],
    device: str | torch.device | None,
    may_start: Callable[[], bool],
) -> Iterator:
    """Yield `function(*a)` for each a of `arguments`, in the order in which they are done.

    As many run at once as the cluster has room for, and no more start when `may_start()` says
    no. A call whose worker or node dies is made again elsewhere, at most RETRIES times. An
    exception in a call is raised here, after the results of the calls that ended before it.
    """
    resources = connect(device)
    import ray

    task = ray.remote(num_cpus=1, num_gpus=resources.get("gpu", 0), max_retries=RETRIES)(function)
    waiting, running = deque(arguments), []
    try:
        while True:
            while waiting and len(running) < _room(resources) and may_start():
                running.append(task.remote(*waiting.popleft()))
            if not running:
                return
            ray.wait(running)
            done, running = ray.wait(running, num_returns=len(running), timeout=0)
            yield from _results(done)
    finally:
        for call in running:
            ray.cancel(call)


def _room(resources: dict[str, int]) -> int:
    import ray

    have = ray.cluster_resources()  # less after a node has died
    return max(1, min(int(have.get(name.upper(), 0)) // n for name, n in resources.items()))


def _results(done: list) -> Iterator:
    """Results first, then the first exception."""
    import ray

    errors = []
    for call in done:
        try:
            result = ray.get(call)
        except ray.exceptions.RayError as error:
            errors.append(error)
        else:
            yield result
    if errors:
        raise errors[0]
