import copy
import inspect
import json
import math
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import reluprime
from reluprime.check import _conditions, check
from reluprime.check.passes import Condition, Gradients, Result
from reluprime.check.report import Report, interval
from reluprime.check.sites import Counts, Site
from reluprime.cli import main
from reluprime.evidence import intervals
from reluprime.instruments import activations, data, models
from reluprime.instruments.arithmetic import emulate
from reluprime.mechanism import study as mechanism


class Planted(nn.Module):
    """Neuron 0 is 0 by its weights; neuron 1 by rounding at fp32 for an input of 2**-30."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.first = nn.Linear(1, 3)
        self.act = activation()
        self.head = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[0.0], [1.0], [1.0]]))
            self.first.bias.copy_(torch.tensor([0.0, 0.0, 5.0]))
            self.head.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]))

    def forward(self, x):
        z = self.first(x) + 1 - 1  # 2**-30 is lost at fp32
        return self.head(self.act(z))


INPUT = torch.tensor([[2.0**-30], [1.0]])
TARGET = torch.tensor([0, 1])


def only(frame):
    assert len(frame) == 1
    return frame.iloc[0]


# ---- call sites ----


def test_structural_hits_are_those_that_fp64_shares():
    report = check(Planted(), (INPUT, TARGET), arithmetic="native")
    site = only(report.sites)
    assert (site["module"], site["function"]) == ("act", "relu")
    assert (site["calls"], site["hits"], site["structural"], site["by_rounding"]) == (6, 3, 2, 1)
    at_fp64 = only(check(Planted().double(), (INPUT, TARGET), arithmetic="native").sites)
    assert (at_fp64["hits"], at_fp64["structural"]) == (2, 2)


def test_the_change_is_that_of_the_reports_own_activations():
    report = check(Planted(), (INPUT, TARGET), arithmetic="native")
    flat = []
    for s in (0.0, 1.0):
        model = Planted(lambda s=s: activations.ReLU(s))
        F.cross_entropy(model(INPUT), TARGET).backward()
        flat.append(torch.cat([p.grad.double().flatten() for p in model.parameters()]))
    expected = float((flat[1] - flat[0]).norm() / flat[0].norm())
    found = only(report.gradients)
    assert found["depends"]
    assert found["relative_l2"] == pytest.approx(expected, rel=1e-12)
    assert found["relative_l2"] > 0.01


class TwoPlaces(nn.Module):
    """One module called at two lines, a function, and a row of modules."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.row = nn.Sequential(nn.Linear(4, 4), nn.ReLU6())

    def forward(self, x):
        x = self.act(x - 10)  # first
        x = self.act(x + 1)  # second
        x = F.hardtanh(self.row(x))  # third
        return torch.maximum(x, x)  # fourth


def test_a_site_is_a_module_and_a_line():
    model = nn.Sequential(nn.Linear(4, 4), TwoPlaces())
    sites = check(model, (torch.rand(5, 4), torch.zeros(5, dtype=int)), arithmetic="native").sites
    lines, start = inspect.getsourcelines(TwoPlaces)
    line = {
        word: f"test_check.py:{start + number}"
        for number, text in enumerate(lines)
        for word in ("first", "second", "third", "fourth")
        if text.endswith(f"# {word}\n")
    }
    assert sites[["module", "line", "function"]].to_numpy().tolist() == [
        ["1.act", line["first"], "relu"],
        ["1.act", line["second"], "relu"],
        ["1.row.1", line["third"], "relu6"],
        ["1", line["third"], "hardtanh"],
        ["1", line["fourth"], "maximum"],
    ]
    assert sites["hits"].iloc[-1] == 20  # every pair is equal
    assert sites["dead_units"].tolist()[:2] == [4, 0]


def test_in_a_row_of_pytorchs_own_modules_the_line_is_empty():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    site = only(
        check(model, (torch.rand(5, 4), torch.zeros(5, dtype=int)), arithmetic="native").sites
    )
    assert (site["module"], site["line"]) == ("1", "")


def test_dead_units_are_those_that_no_mini_batch_lifts():
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0], [0.0], [0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, -1.0, 0.0]))
    y = torch.tensor([0, 1])
    up, down = torch.tensor([[1.0], [2.0]]), torch.tensor([[-1.0], [-2.0]])
    assert only(check(model, (up, y), arithmetic="native").sites)["dead_units"] == 3
    both = only(check(model, [(up, y), (down, y)], arithmetic="native").sites)
    assert (both["units"], both["dead_units"]) == (4, 2)


def test_units_of_tokens_are_the_last_dimension():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2), nn.Flatten(1, 2))
    batch = torch.rand(2, 7, 3), torch.tensor([0, 1])
    site = only(check(model, batch, arithmetic="native").sites)
    assert site["units"] == 5
    assert math.isnan(site["expected"])  # no model for a linear layer of tokens


def test_hits_and_expectation_are_the_mechanisms():
    config = mechanism.ForwardZerosConfig(
        dataset="mnist-5k", hidden_sizes=(64, 64), precision="bf16", n_images=512
    )
    expected = mechanism.forward_zeros(config)
    dataset = data.load("mnist-5k")
    images = dataset.train_images[:512].split(256)
    labels = dataset.train_labels[:512].split(256)
    model = models.build(config, (1, 28, 28), 10, activations.ReLU, seed=0).to(torch.bfloat16)
    batches = [
        (data.unit_images(x, torch.bfloat16), y) for x, y in zip(images, labels, strict=True)
    ]
    sites = check(model, batches, arithmetic="native").sites
    assert sites["calls"].tolist() == list(expected["calls"].values())
    assert sites["hits"].tolist() == list(expected["zeros"].values())
    assert sites["structural"].tolist() == list(expected["structural"].values())
    assert sites["expected"].tolist() == pytest.approx(list(expected["predicted"].values()))
    assert sites["expected"].gt(0).all()


def test_nothing_is_expected_where_branches_meet():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.first = nn.BatchNorm1d(4), nn.Linear(4, 4)

        def forward(self, x):
            z = self.norm(self.first(x).relu())
            z += x
            return z.relu()

    batch = torch.rand(8, 4), torch.zeros(8, dtype=int)
    expected = check(Residual(), batch, arithmetic="native").sites["expected"]
    assert expected.notna().tolist() == [True, False]


# ---- conditions and cost ----


class Counting(nn.Module):
    def __init__(self, model, passes):
        super().__init__()
        self.model, self.passes = model, passes

    def __deepcopy__(self, memo):
        return Counting(copy.deepcopy(self.model, memo), self.passes)

    def forward(self, x):
        self.passes.append("forward")
        output = self.model(x)
        if output.requires_grad:
            output.register_hook(lambda _: self.passes.append("backward"))
        return output


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-autocast", "fp64"])
def test_at_most_three_training_steps_a_mini_batch_and_condition(precision):
    passes = []
    batches = [(INPUT, TARGET)] * 4
    report = check(Counting(Planted(), passes), batches, precision=precision)
    steps = 4 * len(report.results)
    assert report.gradients["depends"].all()
    assert passes.count("forward") <= 3 * steps
    assert passes.count("backward") == 2 * steps


def test_without_a_hit_one_training_step_is_enough():
    passes = []
    batch = torch.tensor([[1.0]]), torch.tensor([0])
    model = Planted()
    with torch.no_grad():
        model.first.bias.fill_(1.0)
    report = check(Counting(model, passes), batch, arithmetic="native")
    assert passes == ["forward", "backward"]
    assert only(report.gradients)["relative_l2"] == 0


def test_every_arithmetic_that_the_model_can_have():
    report = check(Planted(), (INPUT, TARGET), precision=["fp32", "bf16", "bf16-autocast"])
    assert [(c.precision, c.arithmetic) for c in report.results] == [
        ("fp32", "native"),
        ("fp32", "epilogue"),
        ("bf16", "native"),
        ("bf16", "epilogue"),
        ("bf16", "separate"),
        ("bf16-autocast", "native"),
    ]
    why = {(c.precision, c.arithmetic): why for c, why in report.not_available.items()}
    assert why["fp32", "separate"] == "at fp32 it is epilogue"
    assert set(why) == {
        ("fp32", "separate"),
        *((("bf16-autocast"), a) for a in ("epilogue", "separate")),
    }


def test_a_gpu_is_looked_at_with_and_without_reduced_precision_reductions():
    gpu = torch.device("cuda")
    found = _conditions(["fp32", "bf16", "fp16-autocast"], ["native", "separate"], gpu)
    assert [c.precision for c in found if c.reduced_precision] == ["bf16", "fp16-autocast"]
    assert [c.reduced_precision for c in found if c.precision == "bf16"] == [True, False, False]
    assert not any(
        c.reduced_precision for c in _conditions(["bf16"], ["native"], torch.device("cpu"))
    )


@pytest.mark.cuda
def test_on_a_gpu():
    report = check(Planted().cuda(), [(INPUT, TARGET)] * 2, precision=["fp32", "bf16"])
    assert report.gradients["depends"].all()
    assert (report.sites["structural"] == 4).all()
    assert [c.reduced_precision for c in report.results if c.precision == "bf16"].count(True) == 1


def test_an_arithmetic_is_that_of_the_emulated_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 5)).to(torch.bfloat16)
    x = torch.randn(64, 20).to(torch.bfloat16)
    found = {}
    for arithmetic in ("native", "separate"):
        sites = check(model, (x, torch.zeros(64, dtype=int)), arithmetic=arithmetic).sites
        found[arithmetic] = only(sites)["hits"]
        z = emulate(copy.deepcopy(model), arithmetic)[0](x)
        assert found[arithmetic] == int((z == 0).sum())
    assert found["separate"] > found["native"]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), nn.Flatten()), "no nn.Linear"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4, momentum=None)),
            "momentum",
        ),
    ],
)
def test_says_why_an_arithmetic_is_not_available(model, why):
    batch = torch.randn(4, 2, 3), torch.zeros(4, dtype=int)
    report = check(model, batch)
    assert [c.arithmetic for c in report.results] == ["native"]
    assert why in next(iter(report.not_available.values()))
    with pytest.raises(ValueError, match=why):
        check(model, batch, arithmetic="epilogue")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp8"}, "choose of"),
        ({"arithmetic": ["native", "fused"]}, "choose of"),
        ({"precision": []}, "choose of"),
        ({"batch": []}, "0 mini-batches"),
        ({"model": nn.ReLU()}, "0 weights"),
        ({"precision": "tf32"}, "needs an NVIDIA GPU"),
    ],
)
def test_misuse_raises(arguments, message):
    usual = {"model": Planted(), "batch": (INPUT, TARGET)}
    with pytest.raises(ValueError, match=message):
        check(**usual | arguments)


class Drifting(nn.Module):
    """Doubles its input, and more with each call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.ones(()))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_the_model_and_the_random_numbers_stay_what_they_were():
    model = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), Drifting(), nn.Dropout(), nn.ReLU())
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    report = check(model, [(INPUT, TARGET)] * 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(p.grad is None for p in model.parameters())
    # the same mini-batch twice: dropout and buffers are the same too
    assert report.gradients["next_batch"].dropna().tolist() == [0.0, 0.0]
    assert not report.gradients["depends"].any()
    torch.manual_seed(1)
    again = check(model, [(INPUT, TARGET)] * 2)
    assert again.sites.equals(report.sites)


def test_other_losses_and_frozen_weights():
    model = Planted()
    model.first.requires_grad_(False)
    report = check(model, (INPUT, torch.zeros(2, 2)), loss=F.mse_loss, arithmetic="native")
    assert not only(report.gradients)["depends"]  # the head alone does not see the derivative
    assert only(report.sites)["hits"] == 3


def test_numbers_that_are_not_finite_are_counted_apart():
    model = Planted()
    with torch.no_grad():
        model.head.weight[0, 0] = math.inf
    report = check(model, (INPUT, TARGET), arithmetic="native")
    row = only(report.gradients)
    assert row["non_finite"] > 0
    assert "not finite" in report.answer


# ---- the answer ----


def test_models_without_a_kink_get_no():
    model = nn.Sequential(nn.Linear(1, 4), nn.GELU(), nn.Linear(4, 2))
    report = check(model, (INPUT, TARGET))
    assert report.answer.startswith("No: the model calls no function with a kink")
    assert report.sites.empty
    json.dumps(report.as_dict())


def test_what_is_not_reached_is_named():
    model = nn.Sequential(nn.Linear(1, 4), nn.PReLU(), nn.Linear(4, 2))
    assert "Not reached: prelu." in check(model, (INPUT, TARGET)).answer


def test_a_model_whose_course_depends_on_its_numbers_is_not_compared():
    class Fickle(Planted):
        def forward(self, x):
            output = super().forward(x)
            return output if x.dtype == torch.float32 else F.relu(output)

    report = check(Fickle(), (INPUT, TARGET), arithmetic="native")
    assert only(report.sites)["hits"] == 3
    assert only(report.sites)[["structural", "by_rounding"]].isna().all()
    assert only(report.summary)[["structural", "by_rounding"]].isna().all()
    json.dumps(report.as_dict())
    assert report._repr_html_()


def made_up(changes, next_batch=math.nan):
    gradients = [Gradients(change > 0, change, 0, next_batch) for change in changes]
    counts = {Site("act", "a.py:1", "relu"): Counts(calls=10, hits=1)}
    return Report({Condition("fp32", "native", False): Result(gradients, counts, [])}, {})


@pytest.mark.parametrize(
    ("changes", "next_batch", "words"),
    [
        (
            [0, 0, 0],
            1.0,
            "Not seen: at fp32 the gradient depends on the derivative at kinks for 0 of 3",
        ),
        (
            [0, 0.2, 0],
            1.0,
            "Yes: at fp32 the gradient depends on the derivative at kinks for 1 of 3",
        ),
        ([0, 0.2, 0], 1.0, "by 20 % of its length"),
        ([0, 0.001], 1.0, "Hardly: "),
        ([0, 0.001], 0.01, "Yes: "),
        ([0.001], math.nan, "Hardly: "),
        (
            [0.2],
            math.nan,
            "for 1 of 1 mini-batches (95 % interval 2.5 % to 100 % of all), by 20 % of",
        ),
        ([0.2, 0.2], 1.25, "(another mini-batch changes it by 125 %)"),
    ],
)
def test_the_answer_in_words(changes, next_batch, words):
    assert words in made_up(changes, next_batch).answer


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_the_interval_is_clopper_and_pearsons(k, more):
    if k + more:
        expected = intervals.clopper_pearson(k, k + more)
        assert interval(k, k + more) == pytest.approx(expected, abs=1e-9)


def test_tables_picture_and_json():
    report = check(Planted(), [(INPUT, TARGET)] * 3, precision=["fp32", "bf16"])
    assert (report.summary["affected"] == 3).all()
    assert report.answer in str(report)
    assert report.answer in report._repr_html_()
    found = json.loads(json.dumps(report.as_dict()))
    assert found["answer"] == report.answer
    assert found["sites"][0]["hits"] == 9
    axes = report.plot()
    assert axes.get_yticklabels()[0].get_text().startswith("act test_check.py")


# ---- the command ----


def build_planted():
    return Planted()


def run_main(capsys, *arguments):
    code = main(["check", *arguments])
    return code, capsys.readouterr()


def test_the_command_takes_ones_own_factory(capsys, tmp_path):
    torch.save({"state_dict": Planted().state_dict()}, tmp_path / "weights.pt")
    code, printed = run_main(
        capsys, f"{__name__}:build_planted", "--shape", "1", "--batches", "2", "--json",
        "--weights", str(tmp_path / "weights.pt"), "--precision", "bf16",
    )  # fmt: skip
    assert code == 0
    found = json.loads(printed.out)
    assert [row["mini_batches"] for row in found["summary"]] == [2, 2, 2]
    assert found["summary"][0]["precision"] == "bf16"


def test_the_command_reads_a_folder_of_images(capsys, tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for shade in range(3):
            Image.new("RGB", (40, 30), (shade * 90, 0, 0)).save(tmp_path / label / f"{shade}.png")
    arguments = ("torchvision:squeezenet1_1", "--data", str(tmp_path), "--shape", "3,32,32")
    code, printed = run_main(capsys, *arguments, "--batch-size", "3", "--batches", "2")
    assert code == 0
    assert "of 2 mini-batches" in printed.out
    assert "squeezenet.py" in printed.out
    code, printed = run_main(capsys, *arguments, "--batch-size", "4", "--batches", "2")
    assert code == 2
    assert "has 6 images" in printed.err


class Unsafe:
    def __reduce__(self):
        return (sys.exit, (3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet18"], "neither torchvision:NAME nor"),
        (["torchvision:resnet19"], "resnet19"),
        (["no.such:model"], "No module named"),
        (["json:no_such"], "no attribute"),
        (["torchvision:resnet18", "--weights", "missing.pt"], "missing.pt"),
    ],
)
def test_the_command_says_what_it_cannot_use(capsys, arguments, message):
    code, printed = run_main(capsys, *arguments)
    assert code == 2
    assert message in printed.err


def test_weights_run_no_code(capsys, tmp_path):
    torch.save({"state_dict": Unsafe()}, tmp_path / "unsafe.pt")
    arguments = (f"{__name__}:build_planted", "--weights", str(tmp_path / "unsafe.pt"))
    code, printed = run_main(capsys, *arguments)
    assert code == 2
    assert "does not hold the weights of this model, and no more" in printed.err


OTHERS = ("torchvision", "matplotlib", "scipy", "optuna", "mlxtend", "seaborn", "statsmodels")
CORE = f"""
import sys
for name in {OTHERS}:
    sys.modules[name] = None  # an import raises
import torch, reluprime
reluprime.testing.assert_derivative_at_kinks(reluprime.relu)
model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
with reluprime.kinks(0.5):
    model(torch.zeros(1, 2))
report = reluprime.check(model, (torch.randn(4, 2), torch.tensor([0, 1, 0, 1])))
assert isinstance(report, reluprime.Report)
print(report.answer)
from reluprime.cli import main
assert main(["check", "torchvision:resnet18"]) == 2
"""


def test_the_core_needs_no_more_than_its_dependencies():
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", CORE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Not seen: at fp32")
    assert "pip install '.[vision]' in a clone of the repository" in done.stderr
    assert set(reluprime.__all__) <= set(dir(reluprime))


# ---- torchvision ----

MILLIONS = 30  # of weights: more than that takes more than 2 s here


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_torchvisions_models_go_through(name):
    weights = next(iter(torchvision.models.get_model_weights(name)))
    millions = weights.meta["num_params"] / 1e6
    if millions > MILLIONS:
        pytest.skip(f"{millions:.0f} million weights: too slow for a test")
    sizes = {"maxvit_t": 224, "inception_v3": 299}  # the least that they take
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The default weight initialization of")
        model = torchvision.models.get_model(name, weights=None)
    size = sizes.get(name, 64)
    report = check(
        model, (torch.randn(2, 3, size, size), torch.tensor([0, 1])), arithmetic="native"
    )
    calls = report.summary["calls"].item()
    smooth = ("convnext", "efficientnet", "maxvit", "swin_t")
    assert (calls == 0) == name.startswith(smooth)
    assert "Not reached" not in report.answer
