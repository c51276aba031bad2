"""The state of a training on disk, so that a run that was killed goes on."""

import hashlib
import io
import os
import warnings

import torch

from reluprime.records import scratch
from reluprime.training.config import TrainingConfig

_DIGEST = 32  # bytes of a SHA-256, before the state


class Checkpoint:
    """The state of a run after an epoch, on disk until the run's result is.

    In the folder RELUPRIME_CHECKPOINTS, in a file of this config, version of the results, version
    of PyTorch, kind of device and number of threads, on which the bits depend. A state that cannot
    be written or read costs time alone: the training goes on, or starts anew, with a UserWarning.
    """

    def __init__(self, config: TrainingConfig, version: int, device: torch.device):
        cell = [version, torch.__version__, device.type, torch.get_num_threads()]
        name = hashlib.sha256(repr([*cell, config.model_dump_json()]).encode()).hexdigest()[:16]
        self.path = scratch.folder() / f"{name}.pt"
        self._part = self.path.with_suffix(".part")  # a kill in mid-write leaves the last state

    def save(self, run, optimizer: torch.optim.Optimizer, history: dict) -> None:
        """Put a state in the place of the last one, whole or not at all."""
        buffer = io.BytesIO()
        state = {"run": run.state, "optimizer": optimizer.state_dict(), "history": history}
        torch.save(state, buffer)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part.write_bytes(hashlib.sha256(buffer.getbuffer()).digest() + buffer.getbuffer())
            os.replace(self._part, self.path)
        except OSError as error:
            warnings.warn(f"the training goes on without a checkpoint: {error}", stacklevel=2)

    def load(self, run, optimizer: torch.optim.Optimizer) -> dict | None:
        """Put the state back and return the history; None where there is nothing to go on from."""
        state = self.read()
        if state is None:
            return None
        with torch.no_grad():
            for name, tensor in run.state.items():
                tensor.copy_(state["run"][name])
        optimizer.load_state_dict(state["optimizer"])
        return state["history"]

    def read(self) -> dict | None:
        """The state on disk: run, optimizer, history. None if there is none, or a damaged one."""
        try:
            data = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            warnings.warn(f"the training starts anew: {error}", stacklevel=2)
            return None
        digest, state = data[:_DIGEST], data[_DIGEST:]
        if hashlib.sha256(state).digest() != digest:
            warnings.warn(f"the training starts anew: {self.path} is damaged", stacklevel=2)
            return None
        return torch.load(io.BytesIO(state))

    def remove(self) -> None:
        """Remove the state of a run that has ended, once its result is kept."""
        scratch.discard(self.path)
        scratch.discard(self._part)
