"""A step of training as a CUDA graph: recorded once, then launched whole, without Python's part.

Small networks and many small kernels leave a GPU waiting for Python; a replay does not.
"""

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # steps before the recording, in which libraries choose and allocate what they need

Step = Callable[..., None]


def captures(device: torch.device) -> bool:
    """Whether steps on this device are recorded."""
    return device.type == "cuda"


def runner(device: torch.device) -> Callable[..., None]:
    """What calls a step as `runner(step, *tensors)`: as it is, or on a GPU by a CUDA graph.

    A runner is for one step. It must change in place what it changes, at the same addresses each
    time, and never wait for the host; the first calls and the recording alone run its Python.
    """
    return _GraphRunner() if captures(device) else _call


def _call(step: Step, *tensors: Tensor) -> None:
    step(*tensors)


class _GraphRunner:
    """Calls a step: by its Python WARM_UP times, then by a CUDA graph that is recorded once.

    A call of the graph copies the tensors to where the recorded ones are, and launches it. The
    graph is for the shapes of the first call: with others, as of the last and shorter mini-batch of
    an epoch, the step's Python runs every time.

    The step is an argument of each call, and no reference to it is kept: it may lead back here,
    and a graph in such a circle waits for the garbage collector, which may free it while a later
    one is being recorded, and spoil that.
    """

    def __init__(self):
        self._shapes, self._warm = None, 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, step: Step, *tensors: Tensor) -> None:
        shapes = [t.shape for t in tensors]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:  # the last, shorter mini-batch of an epoch
            step(*tensors)
        elif self._warm < WARM_UP:
            self._warm += 1
            warm_up(step, tensors)
        else:
            if self._replay is None:
                self._inputs = [t.clone() for t in tensors]
                self._replay = record(step, self._inputs)
            for own, t in zip(self._inputs, tensors, strict=True):
                own.copy_(t)
            self._replay()


@functools.cache
def _side_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # memory is kept by stream, so one for all


def warm_up(step: Step, tensors: tuple[Tensor, ...]) -> None:
    """One step on a side stream, as PyTorch's notes on CUDA graphs ask."""
    side = _side_stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), warnings.catch_warnings():
        # Adam that may be recorded warns when it runs without.
        warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
        step(*tensors)
    torch.cuda.current_stream().wait_stream(side)


def record(step: Step, inputs: list[Tensor]) -> Callable[[], None]:
    """-> what runs `step` on the present contents of `inputs`; recording it computes nothing."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on: those of a data loader copy images to the GPU.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step(*inputs)
    return graph.replay
