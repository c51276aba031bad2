"""Speed of `volume.estimate` against the algorithm released with B21, in one run.

    RELUPRIME_DATA=ROOT python benchmarks/volume.py [--networks 4] [--repeats 3]

The baseline is written anew from its description: for each random network a twin whose only
difference is ReLU'(0), a forward and a backward pass of both on every mini-batch of MNIST, read
through a torchvision DataLoader that converts image by image, and for every mini-batch a
comparison and six norms of the first layer's gradients. A second baseline keeps the data in
memory, to tell what the loader costs. Goal: 15 times the baseline's speed at fp32 on a CPU.

The screen needs one forward pass, and the baseline six times its arithmetic, so the last line
gives what bounds the ratio: the share of the measured matrix-product rate that ours reaches.
"""

import argparse
import statistics
from itertools import pairwise

import torch
import torch.nn.functional as F
from released import InjectedReLU, matrix_product_rate, mnist, print_machine, timed
from torch.utils.data import DataLoader
from torchvision import transforms

from reluprime import data, models, volume
from reluprime.activations import ReLU
from reluprime.volume import VolumeConfig

SIZES = (784, 256, 256, 256, 10)
BATCH_SIZE = 256


class TwinReLU(ReLU):
    def forward(self, x):
        return InjectedReLU.apply(x, self.s)


def loader_batches():
    """MNIST as the release reads it: one image at a time."""
    return DataLoader(mnist(transforms.ToTensor()), batch_size=BATCH_SIZE)


def memory_batches():
    """The same mini-batches as tensors."""
    dataset = data.load("mnist", device="cpu")
    images = data.unit_images(dataset.train_images, torch.float32)
    return list(zip(images.split(BATCH_SIZE), dataset.train_labels.split(BATCH_SIZE), strict=True))


def released_algorithm(batches, n_networks):
    """Mini-batches whose first-layer gradients differ, by network."""
    affected = []
    for seed in range(n_networks):
        twins = [models.mlp(SIZES, lambda s=s: TwinReLU(s), seed=seed) for s in (0.0, 1.0)]
        affected.append(0)
        for images, labels in batches:
            for network in twins:
                network.zero_grad()
                F.cross_entropy(network(images.view(len(images), -1)), labels).backward()
            first, second = (network.linear1.weight.grad for network in twins)
            affected[-1] += not torch.equal(first, second)
            for norm in (1, 2):
                for gradient in (first, second, first - second):
                    torch.linalg.vector_norm(gradient, norm).item()
    return affected


def ours(n_networks):
    """The same, by `volume.estimate`, over all parameters."""
    config = VolumeConfig(dataset="mnist", n_networks=n_networks)
    return volume.estimate(config, torch.device("cpu"))["affected_injected"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=4, help="networks of one measurement")
    parser.add_argument("--repeats", type=int, default=3, help="measurements, interleaved")
    arguments = parser.parse_args()
    n = arguments.networks
    loader, memory = loader_batches(), memory_batches()
    runs = {
        "ours": (ours, 5 * n),  # a cell of the records has 50: loading the data counts little
        "released, in memory": (lambda n: released_algorithm(memory, n), n),
        "released, DataLoader": (lambda n: released_algorithm(loader, n), n),
    }
    for function, _ in runs.values():  # warm up
        function(1)
    seconds = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        found = {}
        for name, (function, networks) in runs.items():
            wall, found[name] = timed(function, networks)
            seconds[name].append(wall / networks)
        if len({tuple(affected[:n]) for affected in found.values()}) > 1:
            raise SystemExit(f"the algorithms disagree on the affected mini-batches: {found}")
    print_machine()
    print(f"affected mini-batches of the first {n} networks: {found['ours'][:n]}, all agree")
    for name, values in seconds.items():
        ratios = [value / own for value, own in zip(values, seconds["ours"], strict=True)]
        print(
            f"{name:22} {statistics.median(values):7.3f} s a network   "
            f"{statistics.median(ratios):5.1f} times ours ({min(ratios):.1f} to {max(ratios):.1f})"
        )
    operations = 2 * 60_000 * sum(a * b for a, b in pairwise(SIZES[:-1]))
    rate = matrix_product_rate(BATCH_SIZE, *SIZES[:2])
    share = operations / statistics.median(seconds["ours"]) / rate
    print(f"ours runs at {share:.0%} of the measured matrix-product rate")


if __name__ == "__main__":
    main()
