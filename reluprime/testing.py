"""One line for a test suite: is the derivative of an activation right, at its kinks above all?

assert_derivative_at_kinks(torch.nn.functional.relu)
assert_derivative_at_kinks(my_relu6, kinks=(0.0, 6.0))
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
STEP = 1e-4  # of finite differences, in fp64
AWAY = (-7.31, -2.47, -1.13, -0.519, -0.0731, 0.0613, 0.487, 1.17, 2.59, 6.83)  # from each kink
UPSTREAM = (0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 4.0)

Activation = Callable[[Tensor], Tensor]


def assert_derivative_at_kinks(
    function: Activation,
    kinks: Sequence[float] = (0.0,),
    *,
    between: bool = True,
    dtypes: Sequence[torch.dtype] = DTYPES,
) -> None:
    """Raise AssertionError, saying why in words, unless the derivative of `function` is right.

    function: x -> y, element by element, of x's shape; it may overwrite x. kinks: all points where
    its one-sided derivatives differ. In each of `dtypes`, on the CPU and on a GPU if there is one:

    - y has the shape and dtype of x, and a gradient reaches x, the same from call to call;
    - at each kink the gradient is finite, and linear in the upstream gradient: 0 for 0. What other
      numbers are in the tensor does not matter, and at -0.0 it is the gradient at 0.0;
    - there it lies between the one-sided derivatives (`between`), which finite differences in fp64
      find; the function does not jump there;
    - elsewhere it agrees with finite differences in fp64.

    Source: B21, Section 2, for the chain rule at a kink; the code released with it fails here.
    """
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        for dtype in dtypes:
            check = _Check(function, dtype, device)
            check.keeps_shape_and_dtype(kinks)
            for kink in kinks:
                check.is_linear_at(kink)
                check.ignores_neighbours_at(kink)
                if between:
                    check.lies_between_sides_at(kink)
            check.agrees_with_differences(kinks)


class _Check:
    """The checks in one dtype on one device; each raises AssertionError."""

    def __init__(self, function: Activation, dtype: torch.dtype, device: str):
        self._function, self._dtype, self._device = function, dtype, device
        self._where = f"{str(dtype).removeprefix('torch.')} on {device}"
        self._tolerance = max(4 * torch.finfo(dtype).eps, 1e-6)

    def _fail(self, what: str) -> None:
        raise AssertionError(f"{what} ({self._where})")

    def _values(self, x: Sequence[float] | Tensor, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(x, dtype=dtype, device=self._device)

    def _gradient(self, x: Sequence[float], upstream: Sequence[float]) -> Tensor:
        """Input gradients in fp64, (len(x),)."""
        leaf = self._values(x, self._dtype).requires_grad_()
        y = self._function(leaf * 1)
        (gradient,) = torch.autograd.grad(y, leaf, self._values(upstream, self._dtype))
        return gradient.double()

    def _at(self, kink: float, upstream: float) -> float:
        return float(self._gradient([kink], [upstream]))

    def _difference(self, x: float, step: float) -> float:
        """One-sided derivative towards x + step, in fp64, exact for parabolas."""
        near = self._values([x, x + step / 2, x + step], torch.float64)
        y0, half, whole = self._function(near * 1).tolist()
        return (4 * half - whole - 3 * y0) / step + 0.0  # no -0.0 in a message

    def keeps_shape_and_dtype(self, kinks: Sequence[float]) -> None:
        x = self._values([*kinks, 1.0, -1.0], self._dtype).requires_grad_()
        y = self._function(x * 1)
        if y.shape != x.shape:
            self._fail(
                f"the result has the shape {tuple(y.shape)} for an input of {tuple(x.shape)}"
            )
        if y.dtype != x.dtype:
            self._fail(f"the result has the dtype {y.dtype}, not the input's")
        if not y.requires_grad:
            self._fail(
                "no gradient reaches the input: the result does not depend on it for autograd"
            )

    def is_linear_at(self, kink: float) -> None:
        found = {upstream: self._at(kink, upstream) for upstream in UPSTREAM}
        at = f"the input gradient at the kink x = {kink}"
        told = f"{found[1.0]:g} for an upstream gradient of 1"
        if any(value != value or abs(value) == float("inf") for value in found.values()):
            self._fail(f"{at} is not finite: {told}")
        if self._at(kink, 1.0) != found[1.0]:
            self._fail(f"{at} differs from call to call: {told}, then {self._at(kink, 1.0):g}")
        if found[0.0] != 0 and len(set(found.values())) == 1:
            self._fail(
                f"{at} does not depend on the upstream gradient: it is {found[0.0]:g} for every "
                "one, even for 0. By the chain rule it is a derivative times the upstream "
                "gradient; here the derivative was put in the place of the product"
            )
        if found[0.0] != 0:
            self._fail(f"{at} is {found[0.0]:g} for an upstream gradient of 0; it should be 0")
        for upstream, value in found.items():
            if abs(value - upstream * found[1.0]) > self._tolerance * abs(upstream * found[1.0]):
                self._fail(
                    f"{at} is not linear in the upstream gradient: {told}, "
                    f"and {value:g} for {upstream:g}"
                )

    def ignores_neighbours_at(self, kink: float) -> None:
        alone = self._at(kink, 1.0)
        several = float(self._gradient([kink + 1, kink, kink - 1, kink], [5.0, 1.0, -2.0, 3.0])[1])
        if abs(several - alone) > self._tolerance * abs(alone):
            self._fail(
                f"the input gradient at the kink x = {kink} depends on other elements of the "
                f"tensor: {alone:g} alone, {several:g} among others"
            )
        if kink == 0 and self._at(-0.0, 1.0) != alone:
            self._fail(
                f"the input gradient is {alone:g} at 0.0, but {self._at(-0.0, 1.0):g} at -0.0"
            )

    def lies_between_sides_at(self, kink: float) -> None:
        left, right = self._difference(kink, -STEP), self._difference(kink, STEP)
        if max(abs(left), abs(right)) > 0.01 / STEP:
            self._fail(f"the function jumps at x = {kink}: there is no derivative to lie between")
        derivative = self._at(kink, 1.0)
        slack = 1e-4 + self._tolerance * max(abs(left), abs(right))
        if not min(left, right) - slack <= derivative <= max(left, right) + slack:
            self._fail(
                f"the derivative at the kink x = {kink} is {derivative:g}, which is not between "
                f"the one-sided derivatives {left:g} and {right:g}; between=False allows it"
            )

    def agrees_with_differences(self, kinks: Sequence[float]) -> None:
        points = [kink + step for kink in kinks for step in AWAY]
        apart = [x for x in points if min(abs(x - kink) for kink in kinks) > 0.05]
        x = self._values(apart, self._dtype).double().tolist()  # as the dtype stores them
        found = self._gradient(x, [1.0] * len(x)).tolist()
        for at, gradient in zip(x, found, strict=True):
            slope = (self._difference(at, STEP) + self._difference(at, -STEP)) / 2
            if not abs(gradient - slope) <= 1e-4 + self._tolerance * max(1.0, abs(slope)):
                self._fail(
                    f"the derivative at x = {at:g}, where there is no kink, is {gradient:g}; "
                    f"finite differences give {slope:g}"
                )
