"""The state of a training on disk, so that a run that was killed goes on."""

import hashlib
import io
import pickle

import torch

from reluprime.records import scratch
from reluprime.training.config import TrainingConfig


class Checkpoint:
    """The state of a run after an epoch, on disk until the run's result is.

    In the folder RELUPRIME_CHECKPOINTS, in a file of this config, version of the results, version
    of PyTorch, kind of device and number of threads, on which the bits depend. A state that cannot
    be written or read costs time alone: the training goes on, or starts anew, with a UserWarning.
    """

    def __init__(self, config: TrainingConfig, version: int, device: torch.device):
        cell = [version, torch.__version__, device.type, torch.get_num_threads()]
        name = hashlib.sha256(repr([*cell, config.model_dump_json()]).encode()).hexdigest()[:16]
        self.state = scratch.State(f"{name}.pt", "training")

    def save(self, run, optimizer: torch.optim.Optimizer, history: dict) -> None:
        """Put a state in the place of the last one, whole or not at all."""
        buffer = io.BytesIO()
        state = {"run": run.state, "optimizer": optimizer.state_dict(), "history": history}
        torch.save(state, buffer)
        self.state.write(buffer.getvalue())

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
        data = self.state.read()
        if data is None:
            return None
        try:
            return torch.load(io.BytesIO(data), weights_only=True)  # no code is run
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            self.state.start_anew(f"{self.state.path} is no checkpoint ({type(error).__name__})")
            return None

    def remove(self) -> None:
        """Remove the state of a run that has ended, once its result is kept."""
        self.state.remove()
