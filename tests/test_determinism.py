"""One config, one result: in fresh processes, bit for bit."""

import json
import os
import subprocess
import sys

import pytest

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]

PROGRAM = """
import json, os, sys
import torch
from reluprime import bifurcation, volume
from reluprime.instruments import precision

matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn


def flags():
    return [
        matmul.fp32_precision,
        cudnn.conv.fp32_precision,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
        cudnn.deterministic,
        cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        torch.get_default_dtype() == torch.float32,
    ]


device, before = torch.device(sys.argv[1]), flags()
torch.manual_seed(int(sys.argv[2]))  # the global random state must not matter
state = torch.get_rng_state()
results = {}
config = volume.VolumeConfig(
    dataset="mnist-5k",
    hidden_sizes=(16, 8, 8, 8),
    initialisation="kaiming-uniform",
    precision="fp16",
    batch_size=200,
    n_networks=3,
)
results["volume"] = volume.estimate(config, device)
run = bifurcation.PairedRunConfig(
    dataset="mnist-5k", hidden_sizes=(64,), precision="fp16", seed=6, batch_size=256
)
results["fp16"] = bifurcation.paired_run(run, device)
variants = [bifurcation.Variant(s=0.0, s_upper=1.0, gradient_rule="injected")]
run = bifurcation.PairedRunConfig(
    dataset="mnist-5k",
    hidden_sizes=(32, 16),
    activation="relu6",
    precision="bf16",
    lr=0.5,
    variants=variants,
)
results["relu6"] = bifurcation.paired_run(run, device)
plane = bifurcation.WeightPlaneConfig(run=run, radius=0.1, resolution=5)
results["plane"] = bifurcation.weight_plane(plane, device)
same = flags() == before and torch.equal(torch.get_rng_state(), state)
print(json.dumps({"unchanged": same, "results": results}))
"""


def start(device, seed):
    command = [sys.executable, "-W", "error", "-c", PROGRAM, device, str(seed)]
    environment = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("device", DEVICES)
def test_two_fresh_processes_give_the_same_bits(device):
    processes = [start(device, seed) for seed in (1, 2)]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert printed[0] == printed[1]
    found = json.loads(printed[0])
    assert found["unchanged"]  # flags and the global random state
    results = found["results"]
    assert sum(results["volume"]["affected_injected"]) > 0
    for name in ("fp16", "relu6"):
        assert set(results[name]["distance"]["control"]) == {0.0}
