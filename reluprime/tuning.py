"""Search for the learning rate of a condition with Optuna, on a validation split (B21 4.1).

B21's release searched on test accuracy; here the test images are not looked at.
"""

import hashlib
import os
from pathlib import Path
from typing import Annotated

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from reluprime.config import Config
from reluprime.precision import Precision
from reluprime.training import TrainingConfig, fit

STARTUP = 4  # random trials before the sampler learns from them


class SearchConfig(Config):
    """A search over the learning rate, log-uniform from `lr_low` to `lr_high`."""

    training: TrainingConfig  # of every trial, but for lr; on the validation split
    lr_low: PositiveFloat = 1e-4  # our choice; the rates that B21 chose lie within
    lr_high: PositiveFloat = 1e-1
    n_trials: PositiveInt = 10
    seed: Annotated[int, Field(ge=0)] = 0  # of the sampler

    @model_validator(mode="after")
    def _sensible(self):
        if self.training.evaluate_on != "validation":
            raise ValueError("training.evaluate_on must be 'validation': the test set is read once")
        if self.training.n_networks != 1:
            raise ValueError(f"training.n_networks={self.training.n_networks} must be 1")
        if self.lr_low >= self.lr_high:
            raise ValueError(f"lr_low={self.lr_low} must be below lr_high={self.lr_high}")
        return self

    @property
    def precision(self) -> Precision:
        return self.training.precision


def search(config: SearchConfig, device: torch.device | None = None) -> dict:
    """Train once for each proposed learning rate; the best final validation accuracy wins.

    Returns lr and validation_accuracy (lists, one entry a trial, in order), diverged (list of
    bools), best_lr. A diverged trial counts with the accuracy that it ended at. Finished trials
    are kept in a journal in the folder RELUPRIME_CHECKPOINTS until the search ends; a search that
    was killed goes on with the trial that was running, and proposes what an unbroken one would.
    """
    journal = _journal(config)
    study = _open(journal)
    while len(done := _finished(study)) < config.n_trials:
        # One seed a trial: a sampler that starts again would repeat its first proposals.
        seed = 10_000 * config.seed + len(done)
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
        trial = study.ask()
        lr = trial.suggest_float("lr", config.lr_low, config.lr_high, log=True)
        history = fit(config.training.model_copy(update={"lr": lr}), device)
        trial.set_user_attr("diverged", history["diverged_epoch"] != [None])
        study.tell(trial, history["validation_accuracy"][0][-1])
    journal.unlink()
    return {
        "lr": [trial.params["lr"] for trial in done],
        "validation_accuracy": [trial.value for trial in done],
        "diverged": [trial.user_attrs["diverged"] for trial in done],
        "best_lr": max(done, key=lambda trial: trial.value).params["lr"],
    }


search.version = 1


def _journal(config: SearchConfig) -> Path:
    folder = Path(os.environ.get("RELUPRIME_CHECKPOINTS", "~/.cache/reluprime/checkpoints"))
    cell = repr([search.version, fit.version, config.model_dump_json()])
    folder.expanduser().mkdir(parents=True, exist_ok=True)
    return folder.expanduser() / f"{hashlib.sha256(cell.encode()).hexdigest()[:16]}.journal"


def _open(journal: Path) -> optuna.Study:
    """The search so far; a trial that was running when it was killed counts as not begun."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name="learning rate",
        direction="maximize",
        load_if_exists=True,
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=(TrialState.COMPLETE,))
