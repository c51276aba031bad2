"""The state of a training on disk, so that a run that was killed goes on."""

import hashlib
import os
from pathlib import Path

import torch

from reluprime.records import scratch
from reluprime.training.config import TrainingConfig


class Checkpoint:
    """The state of a run after an epoch, on disk until the run ends.

    In the folder RELUPRIME_CHECKPOINTS, in a file of this config, version of the results, version
    of PyTorch and kind of device.
    """

    def __init__(self, config: TrainingConfig, version: int, device: torch.device):
        folder = os.environ.get("RELUPRIME_CHECKPOINTS", "~/.cache/reluprime/checkpoints")
        cell = [version, torch.__version__, device.type, config.model_dump_json()]
        name = hashlib.sha256(repr(cell).encode()).hexdigest()[:16]
        self.path = Path(folder).expanduser() / f"{name}.pt"

    def save(self, run, optimizer: torch.optim.Optimizer, history: dict) -> None:
        """Put a state in the place of the last one, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {"run": run.state, "optimizer": optimizer.state_dict(), "history": history}
        part = self.path.with_suffix(f".{os.getpid()}")  # a kill in mid-write leaves the last one
        torch.save(state, part)
        os.replace(part, self.path)

    def load(self, run, optimizer: torch.optim.Optimizer) -> dict | None:
        """Put the state back and return the history; None where there is nothing to go on from."""
        if not self.path.exists():
            return None
        state = torch.load(self.path)
        with torch.no_grad():
            for name, tensor in run.state.items():
                tensor.copy_(state["run"][name])
        optimizer.load_state_dict(state["optimizer"])
        return state["history"]

    def remove(self) -> None:
        """Remove the state of a run that has ended, once its result is kept."""
        scratch.discard(self.path)
