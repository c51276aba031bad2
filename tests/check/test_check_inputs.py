"""The models and mini-batches that `check` takes, and what the command says of others."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from reluprime.check import check, inputs
from reluprime.check.passes import PRECISIONS
from reluprime.cli import main

X, Y = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))


# ---- mini-batches ----


def test_a_list_is_one_mini_batch_as_a_tuple_is():
    loader = DataLoader(TensorDataset(X, Y), batch_size=2)
    first = next(iter(loader))
    assert isinstance(first, list)
    for batch, number in ((first, 1), ((X, Y), 1), (loader, 2), ([first, (X, Y)], 2)):
        assert len(check(network(), batch, arithmetic="native").gradients) == number


@pytest.mark.parametrize(
    ("batch", "kinds"),
    [
        (X, "Tensor"),
        ((X,), "Tensor"),
        ((X, Y, Y), "Tensor, Tensor, Tensor"),
        ([({"x": X}, Y)], "dict, Tensor"),
        (({"x": X}, Y), "dict"),
        ([(X, [0, 1, 0, 1])], "Tensor, list"),
        ([{"x": X, "y": Y}], "dict"),
    ],
)
def test_what_is_no_mini_batch_is_said(batch, kinds):
    with pytest.raises(ValueError, match=f"two Tensors; this one is: {kinds}$"):
        check(network(), batch)


# ---- models ----


class Running(nn.Module):
    """Puts another tensor in the place of its buffers with each call, as a moving average."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("last", None)

    def forward(self, x):
        z = self.layer(F.relu(x - 1))  # every input is at the kink, and no weight is before it
        shift = self.mean if self.last is None else self.mean + self.last
        self.mean, self.last = 0.9 * self.mean + 0.1 * z.detach().mean(0) + 1, z.detach().mean(0)
        return z * (1 + shift)


def test_a_buffer_that_the_model_puts_another_for_is_put_back():
    report = check(Running(), [(X, Y)] * 2, arithmetic="native")
    assert report.sites["hits"].tolist() == [16]
    assert not report.gradients["depends"].any()
    assert report.gradients["next_batch"].iloc[1] == 0


class ByName(nn.Module):
    """Calls its layers with inputs by name, that of a layer of its own among them."""

    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x)

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), self.Own(3, 2)

    def forward(self, x):
        return self.second(x=F.relu(self.first(input=x)))


def test_layers_may_be_called_with_inputs_by_name():
    batch = torch.randn(2000, 2), torch.zeros(2000, dtype=int)
    by_name, usual = ByName(), network()
    usual.load_state_dict(dict(zip(usual.state_dict(), by_name.state_dict().values(), strict=True)))
    expected = [
        check(model.bfloat16(), batch, arithmetic="native").sites["expected"].item()
        for model in (by_name, usual)
    ]
    assert expected[0] == expected[1] > 0


def test_weights_of_another_dtype_need_a_precision():
    model = network().to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match=r"the weights are torch\.float8_e4m3fn: choose a"):
        check(model, (X, Y))
    assert len(check(model, (X, Y), precision="fp32", arithmetic="native").results) == 1


class Dict(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return {"out": self.layer(x)}


def test_a_model_that_returns_a_dict_needs_a_loss():
    with pytest.raises(ValueError, match="returns a dict, not logits: give a loss"):
        check(Dict(), (X, Y))
    check(Dict(), (X, Y), loss=lambda output, y: F.cross_entropy(output["out"], y))


def test_the_names_that_check_takes_are_in_its_words():
    assert all(f'"{name}"' in check.__doc__ for name in PRECISIONS)


# ---- the command ----


class NoSuch(nn.Module):
    def __init__(self):
        raise RuntimeError("nothing to build")


def grey():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 2))


@pytest.fixture
def folder(tmp_path):
    """Images in colours, of three classes."""
    for label, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        (tmp_path / f"{label}").mkdir()
        Image.new("RGB", (12, 10), colour).save(tmp_path / f"{label}" / "one.png")
    return tmp_path


def said(capsys, factory, *arguments):
    """What the command says of a model that it cannot check, without its name."""
    assert main(["check", f"{__name__}:{factory}", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.removeprefix("reluprime check: ").removesuffix("\n")


def test_what_a_model_raises_is_said(capsys, folder):
    so = f"{__name__}:{{}} cannot be checked so: "
    wrong_shape = said(capsys, "network", "--shape", "3")
    assert wrong_shape.startswith(so.format("network") + "RuntimeError: mat1 and mat2 shapes")
    images = ("--shape", "1,8,8", "--data", str(folder), "--batch-size", "3")
    assert said(capsys, "grey", *images).startswith(so.format("grey") + "IndexError: Target 2 is")
    words = said(capsys, "NoSuch")
    assert words.startswith(so.format("NoSuch") + "RuntimeError: nothing to build")
    assert said(capsys, "Dict", "--shape", "2") == (
        "the model returns dict, and not a Tensor of logits"
    )


def test_images_have_the_channels_of_the_shape(folder):
    ((x, y),) = inputs.folder_batches(folder, (1, 8, 8), 3, 1)
    assert x.shape == (3, 1, 8, 8)
    weights = torch.tensor([0.299, 0.587, 0.114])  # of the colours in grey (ITU-R 601)
    expected = (weights[y] - 0.449) / 0.226
    assert torch.allclose(x[:, 0, 0, 0], expected, atol=0.02)
    ((x, y),) = inputs.folder_batches(folder, (3, 8, 8), 3, 1)
    red = x[y == 0][0, :, 0, 0]
    assert torch.allclose(red, torch.tensor([2.2489, -2.0357, -1.8044]), atol=1e-4)


@pytest.mark.parametrize("shape", ["28", "4,8,8", "3,8", "1,1,8,8"])
def test_a_shape_of_no_image_is_said(capsys, folder, shape):
    words = said(capsys, "grey", "--shape", shape, "--data", str(folder))
    assert words.endswith("is none of images: 1 or 3 channels, height and width")


OWN = """
from torch import nn
def build():
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
"""


def test_a_module_of_the_current_folder_is_found(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    command = [sys.executable, "-P", "-m", "reluprime"]  # with the path of a console script
    arguments = ["check", "mine:build", "--shape", "2", "--json"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sites"]
