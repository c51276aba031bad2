import os
from pathlib import Path

import pytest


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
