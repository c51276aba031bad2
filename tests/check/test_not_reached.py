"""What `kinks` and `check` do not reach: it is named, and nothing else is."""

import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import CheckpointError, checkpoint

from reluprime.check import check
from reluprime.check.functions import NOT_REACHED
from reluprime.check.watch import NotReachedWarning, kinks

WITHIN, TENSORS = "max, min within one tensor", "clamp between tensors"
LEAKY, ELU = "leaky_relu with a negative slope", "elu with an alpha other than 1"
EXAMPLES = [
    ("amax, amin", lambda x: x.amax(1)),
    ("amax, amin", torch.aminmax),
    ("fmax, fmin", lambda x: torch.fmax(x, torch.zeros(()))),
    ("fmax, fmin", lambda x: x.fmin(torch.zeros(()))),
    (WITHIN, lambda x: x.max(1).values),
    (WITHIN, lambda x: torch.min(x, dim=1, keepdim=True)[0]),
    (WITHIN, torch.max),
    (TENSORS, lambda x: x.clamp(min=torch.zeros(()))),
    (LEAKY, nn.LeakyReLU(-0.5)),
    (ELU, nn.ELU(0.5)),
    (ELU, lambda x: F.elu_(x, 2.0)),
    ("max_pool1d", lambda x: nn.MaxPool1d(2)(x[0])),
    ("max_pool3d", nn.MaxPool3d(2)),
    ("adaptive_max_pool1d", lambda x: nn.AdaptiveMaxPool1d(2)(x[0])),
    ("adaptive_max_pool2d", nn.AdaptiveMaxPool2d(2)),
    ("adaptive_max_pool3d", nn.AdaptiveMaxPool3d(2)),
    ("fractional_max_pool2d", nn.FractionalMaxPool2d(2, output_size=3)),
    ("fractional_max_pool3d", nn.FractionalMaxPool3d(1, output_size=1)),
    ("lp_pool1d", lambda x: nn.LPPool1d(2, 2)(x[0])),
    ("lp_pool2d", nn.LPPool2d(2, 2)),
    ("lp_pool3d", nn.LPPool3d(2, 2)),
    ("prelu", lambda x: F.prelu(x, torch.tensor([0.25]))),
    ("prelu", lambda x: x.prelu(torch.tensor([0.25]))),
    ("rrelu", nn.RReLU()),
    ("rrelu", torch.rrelu),
    ("rrelu", F.rrelu_),
    ("selu", nn.SELU()),
    ("selu", F.selu_),
    ("threshold", nn.Threshold(0.0, 0.0)),
    ("threshold", lambda x: torch.threshold(x, 0.0, 0.0)),
    ("threshold", lambda x: F.threshold_(x, 0.0, 0.0)),
    ("softshrink", nn.Softshrink()),
    ("hardshrink", nn.Hardshrink()),
    ("hardshrink", torch.Tensor.hardshrink),
    ("comparisons", lambda x: x * (x > 0)),
    ("comparisons", lambda x: torch.where(x >= 0, x, 0 * x)),
    ("comparisons", lambda x: x * torch.less(x, 1)),
    ("sign, heaviside", lambda x: x * x.sign()),
    ("sign, heaviside", lambda x: x * torch.heaviside(x, torch.ones(()))),
    ("sort, topk, median", lambda x: x.sort(1).values),
    ("sort, topk, median", lambda x: torch.topk(x, 2)[0]),
    ("sort, topk, median", lambda x: x.median()),
]


def image():
    return torch.rand(1, 2, 8, 8).requires_grad_() * 1  # no leaf: it may be overwritten


def gradient(function, x):
    x = torch.tensor(x, requires_grad=True)
    function(x * 1).sum().backward()
    return x.grad


def test_every_name_has_an_example():
    named = {*NOT_REACHED.values(), WITHIN, TENSORS, LEAKY, ELU}
    assert {name for name, _ in EXAMPLES} == named


@pytest.mark.parametrize(("name", "function"), EXAMPLES)
def test_names_functions_that_it_does_not_reach(name, function):
    x = image()
    with pytest.warns(NotReachedWarning, match=f"does not reach {name}$") as told, kinks(0.5):
        function(x), function(x)
    assert len(told) == 1
    with kinks(0.5), torch.no_grad():  # without gradients it does not matter
        function(x)
    with kinks(0.5):
        function(x.detach())


SMOOTH = {
    "elu": nn.ELU(),
    "elu_": F.elu_,
    "celu": nn.CELU(0.5),
    "softplus": nn.Softplus(),
    "clamp(2, 1)": lambda x: x.clamp(2, 1),
    "a maximum of constants": lambda x: torch.arange(3).max(0).values + x,
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_function_without_a_kink_is_not_named(name):
    with kinks(0.5):
        SMOOTH[name](torch.ones(3, requires_grad=True) * 1)


def test_the_derivative_of_elu_jumps_unless_alpha_is_1():
    for alpha, jumps in ((1.0, False), (0.5, True)):
        left, right = gradient(partial(F.elu, alpha=alpha), [-1e-6, 1e-6])
        assert (abs(left - right) > 1e-4) == jumps


def test_a_relu_that_is_written_by_hand_is_not_answered_with_no():
    class ByHand(nn.Sequential):
        def forward(self, x):
            y = super().forward(x)
            return y * (y > 0)

    answer = check(ByHand(nn.Linear(2, 2)), (torch.ones(2, 2), torch.tensor([0, 1]))).answer
    assert answer.startswith("Not seen: ")
    assert "Not reached: comparisons." in answer


def test_a_maximum_over_a_dimension_is_named_in_the_answer():
    class Maxout(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 6)

        def forward(self, x):
            return self.layer(x).view(-1, 2, 3).max(2).values

    answer = check(Maxout(), (torch.ones(2, 2), torch.tensor([0, 1]))).answer
    assert answer.startswith("Not seen: ")
    assert f"Not reached: {WITHIN}." in answer


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.relu(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


class OwnWithSetup(Own):
    @staticmethod
    def forward(x):
        with torch.no_grad():
            return torch.relu(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


@pytest.mark.parametrize("function", [Own, OwnWithSetup])
def test_names_functions_with_a_backward_pass_of_their_own(function):
    with pytest.warns(NotReachedWarning, match="backward pass of its own"), kinks(0.5):
        gradient(function.apply, [0.0])


def test_names_checkpoints():
    reentrant = partial(checkpoint, F.relu, use_reentrant=True)
    with pytest.warns(NotReachedWarning, match="or a checkpoint"), kinks(0.5):
        assert gradient(reentrant, [0.0]) == 0
    with pytest.raises(CheckpointError), kinks(0.5):  # never silently
        gradient(partial(checkpoint, F.relu, use_reentrant=False), [0.0])


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_call_without_gradients_is_no_function_of_its_own(off):
    x = image()
    with kinks(0.5):
        with off():
            torch.relu(x)
        torch.relu(x)


def test_names_scripted_models_and_threads():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.script(nn.Sequential(nn.ReLU()))
    with pytest.warns(NotReachedWarning, match="scripted"), kinks(0.5):
        assert gradient(scripted, [0.0]) == 0
    with pytest.warns(NotReachedWarning, match="DataParallel"), kinks(0.5):
        nn.DataParallel(nn.ReLU())(image())


def test_compiled_models_run_uncompiled_and_are_named():
    compiled = torch.compile(nn.Sequential(nn.ReLU()))
    with pytest.warns(NotReachedWarning, match="uncompiled") as told, kinks(0.5):
        assert gradient(compiled, [0.0]) == 0.5
    assert len(told) == 1
    function = torch.compile(lambda x: torch.relu(x))
    with kinks(0.5):
        assert gradient(function, [0.0]) == 0.5


def test_what_cannot_have_a_kink_passes():
    with kinks(0.5):
        assert torch.clamp(torch.tensor([-1, 2]), min=0).tolist() == [0, 2]
        assert torch.relu(torch.tensor([-1, 2])).tolist() == [0, 2]
        out = torch.empty(1)
        assert torch.abs(torch.tensor([-1.0]), out=out) is out
        assert torch.max(torch.tensor([1.0, 2.0])) == 2
        assert gradient(lambda x: x.clamp(2, 1), [0.0]) == 0
