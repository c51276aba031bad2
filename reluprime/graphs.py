"""A step of training as a CUDA graph: recorded once, then launched whole, without Python's part.

Small networks and many small kernels leave a GPU waiting for Python; a replay does not.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # steps before the recording, in which libraries choose and allocate what they need

Step = Callable[..., None]


def captures(device: torch.device) -> bool:
    """Whether steps on this device are recorded."""
    return device.type == "cuda"


def replayed(step: Step, device: torch.device) -> Step:
    """`step` itself, or on a GPU the same through a CUDA graph.

    step(*tensors) must change in place what it changes, at the same addresses each time, and
    never wait for the host. Its Python code runs for the first calls and the recording alone.
    """
    return _Replayed(step) if captures(device) else step


class _Replayed:
    """Calls of the first call's shapes: WARM_UP as they are, then replays. Others as they are."""

    def __init__(self, step: Step):
        self._step, self._shapes, self._warm = step, None, 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, *tensors: Tensor) -> None:
        shapes = [t.shape for t in tensors]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:  # the last, shorter mini-batch of an epoch
            self._step(*tensors)
        elif self._warm < WARM_UP:
            self._warm += 1
            _warm_up(self._step, tensors)
        else:
            if self._replay is None:
                self._inputs = [t.clone() for t in tensors]
                self._replay = _record(self._step, self._inputs)
            for own, t in zip(self._inputs, tensors, strict=True):
                own.copy_(t)
            self._replay()


def _warm_up(step: Step, tensors: tuple[Tensor, ...]) -> None:
    """On a side stream, as PyTorch's notes on CUDA graphs ask."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), warnings.catch_warnings():
        # Adam that may be recorded warns when it runs without.
        warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
        step(*tensors)
    torch.cuda.current_stream().wait_stream(side)


def _record(step: Step, inputs: list[Tensor]) -> Callable[[], None]:
    """-> what runs `step` on the present contents of `inputs`; recording it computes nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(*inputs)
    return graph.replay
