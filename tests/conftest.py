import os
from pathlib import Path

import pytest
import torch

from reluprime.training import loop
from reluprime.training import study as training


def pytest_runtest_setup(item):
    """What is marked so, and nothing else, is skipped where there is no GPU: see `make gpu`."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs CUDA")


@pytest.fixture
def full_data_root():
    """A function from a set's name to the folder that holds it; skips where that is absent."""

    def root_of(name):
        root = Path(os.environ.get("RELUPRIME_DATA", ""))
        folder = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "svhn": "test_32x32.mat"}
        if not (root / folder.get(name, "cifar-10-batches-py")).exists():
            pytest.skip(f"{name} is not under RELUPRIME_DATA ({os.environ.get('RELUPRIME_DATA')})")
        return root

    return root_of


@pytest.fixture
def stop_before(monkeypatch):
    """A function that trains a config until an interrupt before an epoch."""

    def stop(epoch, config):
        train = loop.Trainer.epoch

        def interrupted(trainer, batches, now):
            if now == epoch:
                raise KeyboardInterrupt
            train(trainer, batches, now)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Trainer, "epoch", interrupted)
            with pytest.raises(KeyboardInterrupt):
                training.fit(config)

    return stop
