"""Speed of `training.fit` against the loop released with B21, in one run.

    RELUPRIME_DATA=ROOT python benchmarks/training.py [--width 256] [--repeats 3]

The baseline is written anew from its description: MNIST through a torchvision DataLoader that
converts and normalises image by image, the released activation, SGD with momentum and weight
decay, and the loss and the accuracy read back with `.item()` at every step; after the epoch the
test images the same way. Both train 784-WIDTHx3-10 at fp32 from the same weights.
Goals on a CPU: 5 times the baseline's speed at width 256, 1.15 times at 2048, where arithmetic
bounds both; the last line gives the share of the measured matrix-product rate that ours reaches.
"""

import argparse
import os
import statistics
import tempfile
from itertools import pairwise

import torch
import torch.nn.functional as F
from released import ReleasedReLU, matrix_product_rate, mnist, print_machine, timed
from torch.utils.data import DataLoader
from torchvision import transforms

from reluprime import data, models, training
from reluprime.activations import ReLU
from reluprime.training import TrainingConfig

BATCH_SIZE = 128


def config(width, epochs):
    return TrainingConfig(
        dataset="mnist", hidden_sizes=(width,) * 3, epochs=epochs, lr=0.01, schedule="constant"
    )


def network(width):
    """The same initial weights as ours, with the released activation."""
    built = models.mlp((784, *(width,) * 3, 10), ReLU, seed=0)
    for name, module in list(built.named_children()):
        if isinstance(module, ReLU):
            setattr(built, name, ReleasedReLU(0.0))
    return built


def loader(train):
    steps = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    order = torch.Generator().manual_seed(0)
    dataset = mnist(transforms.Compose(steps), train)
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=train, generator=order)


def released_epoch(model, optimizer, batches):
    total_loss = total_correct = 0.0
    for images, labels in batches:
        optimizer.zero_grad()
        logits = model(images.view(len(images), -1))
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
        total_correct += (logits.argmax(1) == labels).sum().item()


def released_loop(width, epochs):
    """-> test accuracy after the last epoch."""
    model, batches, test = network(width), loader(train=True), loader(train=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(epochs):
        released_epoch(model, optimizer, batches)
        with torch.no_grad():
            hits = [
                (model(images.view(len(images), -1)).argmax(1) == labels).sum().item()
                for images, labels in test
            ]
    return sum(hits) / 10_000


def ours(width, epochs):
    """The same by `training.fit`."""
    return training.fit(config(width, epochs), torch.device("cpu"))["test_accuracy"][0][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=256, help="neurons of each hidden layer")
    parser.add_argument("--epochs", type=int, default=3, help="of one measurement")
    parser.add_argument("--repeats", type=int, default=3, help="measurements, interleaved")
    arguments = parser.parse_args()
    width, epochs = arguments.width, arguments.epochs
    data.load("mnist", device="cpu")  # both find the files in memory
    seconds = {ours: [], released_loop: []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RELUPRIME_CHECKPOINTS"] = folder
        for _ in range(arguments.repeats):
            for function, values in seconds.items():
                wall, accuracy = timed(function, width, epochs)
                values.append(wall / epochs)
                if accuracy < 0.9:
                    raise SystemExit(f"{function.__name__} has not learned: {accuracy:.1%}")
    print_machine()
    for function, values in seconds.items():
        ratios = [v / own for v, own in zip(values, seconds[ours], strict=True)]
        print(
            f"{function.__name__:14} {statistics.median(values):7.2f} s an epoch   "
            f"{statistics.median(ratios):5.2f} times ours ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    sizes = (784, *(width,) * 3, 10)
    products = sum(a * b for a, b in pairwise(sizes))
    # Forward, and backward for weights and inputs (the first layer's inputs need none); the
    # test images forward alone.
    operations = 2 * (60_000 * (3 * products - sizes[0] * sizes[1]) + 10_000 * products)
    rate = matrix_product_rate(BATCH_SIZE, width, width)
    share = operations / statistics.median(seconds[ours]) / rate
    print(f"ours runs at {share:.0%} of the measured matrix-product rate")


if __name__ == "__main__":
    main()
