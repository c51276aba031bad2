import os

import pytest
import torch

from reluprime.instruments.precision import DTYPES, describe, numerics, require

CPU = torch.device("cpu")
CUDA = torch.device("cuda")  # a name: flags can be set without such a device
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def flags():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "matmul": matmul.fp32_precision,
        "conv": cudnn.conv.fp32_precision,
        "fp16 reduction": matmul.allow_fp16_reduced_precision_reduction,
        "bf16 reduction": matmul.allow_bf16_reduced_precision_reduction,
        "cudnn deterministic": cudnn.deterministic,
        "cudnn benchmark": cudnn.benchmark,
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


INSIDE = {
    "matmul": "ieee",
    "conv": "ieee",
    "fp16 reduction": False,
    "bf16 reduction": False,
    "cudnn deterministic": True,
    "cudnn benchmark": False,
    "fill": False,
    "deterministic": True,
    "warn only": False,
    "workspace": ":4096:8",
}


def opposite():
    """The spots that a study sets, each with another value than the study's."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return [
        (matmul, "fp32_precision", "tf32"),
        (cudnn.conv, "fp32_precision", "tf32"),
        (matmul, "allow_fp16_reduced_precision_reduction", True),
        (matmul, "allow_bf16_reduced_precision_reduction", True),
        (cudnn, "deterministic", False),
        (cudnn, "benchmark", True),
        (torch.utils.deterministic, "fill_uninitialized_memory", True),
    ]


@pytest.fixture(params=["defaults", "set by the caller"])
def before(request, monkeypatch):
    """The flags before the study: PyTorch's own, or the opposite of what the study sets."""
    original = flags()
    spots = [(holder, name, getattr(holder, name)) for holder, name, _ in opposite()]
    if request.param == "defaults":
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        for spot in opposite():
            setattr(*spot)
        changed = {name for name, value in flags().items() if value != INSIDE[name]}
        assert changed == set(INSIDE) - {"deterministic"}
    yield flags()
    for spot in spots:
        setattr(*spot)
    torch.use_deterministic_algorithms(original["deterministic"], warn_only=original["warn only"])
    monkeypatch.undo()
    assert flags() == original  # nothing leaks into the next test


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_flags_are_set_inside_and_put_back(precision, before):
    with numerics(precision, CPU) as dtype:
        assert dtype == DTYPES[precision]
        assert flags() == INSIDE
    assert flags() == before


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_partial_sums_are_rounded_where_that_is_asked_for(precision, before):
    with numerics(precision, CUDA, reduced_precision=True):
        assert flags() == INSIDE | {"fp16 reduction": True, "bf16 reduction": True}
    assert flags() == before


@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [
        ("fp16", CPU, "reduced_precision=True is a GPU's: .* the device is 'cpu'"),
        ("fp32", CUDA, "reduced_precision=True is for precision='fp16' or 'bf16', not 'fp32'"),
    ],
)
def test_rounded_partial_sums_are_refused_where_there_are_none(precision, device, message, before):
    with pytest.raises(ValueError, match=message), numerics(precision, device, True):
        raise AssertionError("the block must not run")
    assert flags() == before


def test_flags_are_put_back_after_an_exception(before):
    with pytest.raises(KeyError, match="inside"), numerics("fp16", CPU):
        raise KeyError("inside")
    assert flags() == before


def test_nested_blocks(before):
    with numerics("fp32", CPU):
        with numerics("fp16", CPU) as dtype:
            assert dtype == torch.float16
            assert flags() == INSIDE
        assert flags() == INSIDE
        with pytest.raises(ValueError, match="tf32"), numerics("tf32", CPU):
            pass
        assert flags() == INSIDE
    assert flags() == before


@pytest.mark.cuda
def test_tf32_multiplies_with_fewer_bits_and_fp32_does_not():
    a = torch.full((64, 64), 1 + 2.0**-20, device="cuda")
    found = {}
    for precision in ("fp32", "tf32"):
        with numerics(precision, torch.device("cuda")):
            found[precision] = float((a @ torch.eye(64, device="cuda"))[0, 0])
    assert found == {"fp32": 1 + 2.0**-20, "tf32": 1.0}


def test_tf32_on_the_cpu_raises_and_says_what_to_choose(before):
    message = r"precision='tf32' needs an NVIDIA GPU, but the device is 'cpu'; .*fp64, fp32, bf16"
    with pytest.raises(ValueError, match=message):
        require("tf32", CPU)
    with pytest.raises(ValueError, match=message), numerics("tf32", CPU):
        raise AssertionError("the block must not run")
    assert flags() == before


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp8", "FP32", "16 bits", ""])
def test_unknown_precision_raises_and_names_the_choices(precision, device):
    with pytest.raises(ValueError, match="precision=") as error:
        require(precision, torch.device(device))
    assert repr(precision) in str(error.value)
    assert all(name in str(error.value) for name in ("fp64", "fp32", "tf32", "bf16", "fp16"))


def test_dtypes():
    assert {name: str(dtype) for name, dtype in DTYPES.items()} == {
        "fp64": "torch.float64",
        "fp32": "torch.float32",
        "tf32": "torch.float32",
        "bf16": "torch.bfloat16",
        "fp16": "torch.float16",
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp64", "float64"), ("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")],
)
def test_describe(precision, dtype, device, before):
    assert describe(precision, torch.device(device)) == {
        "dtype": dtype,
        "deterministic_algorithms": True,
        "matmul_fp32_precision": "ieee",
        "conv_fp32_precision": "ieee",
        "reduced_precision_reduction": False,
        "cublas_workspace": ":4096:8",
    }
    assert flags() == before


@pytest.mark.parametrize("reduced", [False, True])
def test_describe_says_whether_partial_sums_are_rounded(reduced, before):
    assert describe("fp16", CUDA, reduced)["reduced_precision_reduction"] is reduced
    assert flags() == before


@pytest.mark.cuda
def test_describe_tf32(before):
    found = describe("tf32", torch.device("cuda"))
    assert found["dtype"] == "float32"
    assert found["matmul_fp32_precision"] == found["conv_fp32_precision"] == "tf32"
    assert flags() == before


@pytest.mark.parametrize("precision", ["tf32", "fp8"])
def test_describe_refuses_what_the_device_lacks(precision, before):
    with pytest.raises(ValueError, match=f"precision='{precision}'"):
        describe(precision, CPU)
    assert flags() == before
