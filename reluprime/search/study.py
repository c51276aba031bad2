"""Search for the hyperparameters of a training, with Optuna or Ray Tune (B21 4.1, M23 4.5).

B21's release searched on test accuracy; here a validation split decides, and the test images are
not looked at.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from typing import Annotated, Literal

import optuna
import torch
from optuna.distributions import distribution_to_json, json_to_distribution
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from reluprime.config import Config, study
from reluprime.instruments.precision import Precision, best_device
from reluprime.records import cluster, scratch
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

MOST_TRIALS = 10_000  # each has a seed of its own, of 32 bits
STARTUP = 4  # random trials before TPE learns from them
REDUCTION = 2  # ASHA keeps one trial in so many at each rung (M23)


class Space(Config):
    """What a search draws; what has None here keeps the value of the training."""

    lr: tuple[PositiveFloat, PositiveFloat] = (1e-4, 1e-1)  # log-uniform; B21's choices lie within
    batch_size: tuple[PositiveInt, ...] | None = None  # one of these
    s: tuple[float, float] | None = None  # uniform
    s_upper: tuple[float, float] | None = None  # uniform

    @model_validator(mode="after")
    def _ordered(self):
        for name in ("lr", "s", "s_upper"):
            ends = getattr(self, name)
            if ends is not None and ends[0] >= ends[1]:
                raise ValueError(f"{name}={ends}: the first must be below the second")
        return self


class SearchConfig(Config):
    """A search over `space`; every other parameter of a trial is that of `training`."""

    training: TrainingConfig  # on the validation split
    space: Space = Space()
    n_trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] = 10
    sampler: Literal["tpe", "random"] = "tpe"
    grace_epochs: PositiveInt | None = None  # ASHA's first rung; None: every trial runs to the end
    engine: Literal["optuna", "ray"] = "optuna"  # ray: trials in parallel, on any number of nodes
    seed: Annotated[int, Field(ge=0, le=400_000)] = 0  # of the sampler

    @model_validator(mode="after")
    def _sensible(self):
        if self.training.evaluate_on != "validation":
            raise ValueError("training.evaluate_on must be 'validation': the test set is read once")
        if self.training.n_networks != 1:
            raise ValueError(f"training.n_networks={self.training.n_networks} must be 1")
        if self.space.s_upper is not None and self.training.activation != "relu6":
            raise ValueError(f"space.s_upper={self.space.s_upper}: only relu6 has a kink at 6")
        if self.engine == "ray" and self.sampler != "random":
            raise ValueError(
                f"sampler={self.sampler!r} with engine='ray': trials that run at once cannot "
                "learn from each other in a fixed order; choose sampler='random'"
            )
        return self

    @property
    def precision(self) -> Precision:
        """That of the trainings, for the check of what a device can do."""
        return self.training.precision


def arms(base: SearchConfig, rules: list[str], repeats: int) -> list[SearchConfig]:
    """M23's question as a grid: `base`, in which s and s_upper are 0, and searches that draw both.

    They are drawn from [0, 1] (M23 4.5) under each gradient rule, and once more with
    activation_sites="none", where no activation takes them (M23 as it was run). Each comes with
    seeds 0, 1, ... of the sampler and of the weights; searches of one seed share their draws of
    lr and batch_size if the sampler is random.
    """
    drawn = base.space.replace(s=(0.0, 1.0), s_upper=(0.0, 1.0))
    kinds = [(base.space, {})]
    kinds += [(drawn, {"gradient_rule": rule}) for rule in rules]
    kinds += [(drawn, {"activation_sites": "none"})]
    return [
        base.replace(space=space, training=base.training.replace(**changes, seed=seed), seed=seed)
        for seed in range(repeats)
        for space, changes in kinds
    ]


@study("tuning.search", version=2)
def search(config: SearchConfig, device: torch.device | None = None) -> dict:
    """Train once for each proposed set of parameters; the best final validation accuracy wins.

    Returns trials (a list in the order of their proposal; each has the space's parameters, epochs
    (done), validation_accuracy (after the last of them), diverged) and best (the best trial's
    place in the list; the first of several). A diverged trial counts with the accuracy that it
    ended at.

    With `grace_epochs` the engine's own asynchronous successive halving (ASHA) stops trials whose
    accuracy at a rung is not in the better half of what it has seen there. A random sampler
    proposes the same parameters in the same order whatever the engine, and draws lr and
    batch_size alike whether or not s and s_upper are in the space, so that searches can be paired.

    With Optuna the finished trials are kept in the folder RELUPRIME_CHECKPOINTS until the search
    ends: one that was killed goes on with the trial that was running, and proposes what an
    unbroken one would. Ray needs the extra ``cluster``, and starts on this machine
    unless RAY_ADDRESS names a cluster; a search that was killed there starts anew.
    """
    trials = {"optuna": _with_optuna, "ray": _with_ray}[config.engine](config, device)
    best = max(range(len(trials)), key=lambda i: trials[i]["validation_accuracy"])
    return {"trials": trials, "best": best}


def _propose(space: Space, trial: optuna.trial.BaseTrial) -> dict:
    parameters = {"lr": trial.suggest_float("lr", *space.lr, log=True)}
    if space.batch_size is not None:
        parameters["batch_size"] = trial.suggest_categorical("batch_size", space.batch_size)
    for name in ("s", "s_upper"):
        if (ends := getattr(space, name)) is not None:
            parameters[name] = trial.suggest_float(name, *ends)
    return parameters


def _sampler(config: SearchConfig, number: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial: one that starts again would repeat its first proposals."""
    seed = MOST_TRIALS * config.seed + number
    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)


def _train(
    config: SearchConfig,
    parameters: dict,
    device: torch.device | None,
    stop: Callable[[dict], bool],
) -> dict:
    """One trial; `stop` is that of :func:`training.fit`."""
    # Through the model again, so that a drawn value is checked like a given one.
    training = TrainingConfig.model_validate(dict(config.training) | parameters)
    return _result(parameters, fit(training, device, stop))


def _result(parameters: dict, history: dict) -> dict:
    accuracies = history["validation_accuracy"][0]
    return parameters | {
        "epochs": len(accuracies),
        "validation_accuracy": accuracies[-1],
        "diverged": history["diverged_epoch"] != [None],
    }


def _with_optuna(config: SearchConfig, device: torch.device | None) -> list[dict]:
    kept = scratch.State(_state_name(config, device), "search")
    study = _rebuilt(kept, config)
    while len(done := study.trials) < config.n_trials:
        study.sampler = _sampler(config, len(done))
        trial = study.ask()
        with scratch.kept_until_written():
            result = _train(config, _propose(config.space, trial), device, _pruning(trial))
            trial.set_user_attr("result", result)
            study.tell(trial, result["validation_accuracy"])
            kept.write(json.dumps([_as_json(trial) for trial in study.trials]).encode())
    kept.remove()
    return [trial.user_attrs["result"] for trial in done]


def _pruning(trial: optuna.Trial) -> Callable[[dict], bool]:
    known = 0

    def stop(history: dict) -> bool:
        nonlocal known
        # A training that was resumed brings several epochs at once.
        for accuracy in history["validation_accuracy"][0][known:]:
            known += 1
            trial.report(accuracy, known)
            if trial.should_prune():
                return True
        return False

    return stop


def _state_name(config: SearchConfig, device: torch.device | None) -> str:
    """Of all on which the bits of its trials depend."""
    kind = (best_device() if device is None else torch.device(device)).type
    cell = [search.version, fit.version, torch.__version__, kind, torch.get_num_threads()]
    name = hashlib.sha256(repr([*cell, config.model_dump_json()]).encode()).hexdigest()
    return f"{name[:16]}.search"


def _as_json(trial: optuna.trial.FrozenTrial) -> dict:
    """A finished trial, with what the pruner compares others with."""
    kinds = {name: distribution_to_json(kind) for name, kind in trial.distributions.items()}
    names = ("value", "params", "user_attrs", "system_attrs", "intermediate_values")
    return {"distributions": kinds} | {name: getattr(trial, name) for name in names}


def _from_json(trial: dict) -> optuna.trial.FrozenTrial:
    kinds = {name: json_to_distribution(kind) for name, kind in trial["distributions"].items()}
    reports = {int(step): value for step, value in trial["intermediate_values"].items()}
    changes = {"distributions": kinds, "intermediate_values": reports}
    return optuna.trial.create_trial(**trial | changes)


def _rebuilt(kept: scratch.State, config: SearchConfig) -> optuna.Study:
    """The search as an unbroken one would have it, in memory.

    A trial that a kill interrupted is not in it: the pruner would compare others with what it
    reported, and so stop them at other rungs.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=_pruner(config))
    data = kept.read()
    study.add_trials(map(_from_json, json.loads(data) if data else []))
    return study


def _pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    if config.grace_epochs is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=config.grace_epochs, reduction_factor=REDUCTION
    )


def _proposals(config: SearchConfig) -> list[dict]:
    """What a random sampler proposes, all at once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    proposals = []
    for number in range(config.n_trials):
        study.sampler = _sampler(config, number)
        proposals.append(_propose(config.space, study.ask()))
    return proposals


def _with_ray(config: SearchConfig, device: torch.device | None) -> list[dict]:
    from ray import tune

    resources = cluster.connect(device)
    proposals = _proposals(config)

    def run(choice: dict) -> None:
        parameters = proposals[choice["number"]]

        def report(history: dict) -> bool:
            tune.report(_result(parameters, history))
            return False  # Ray ends the trials that its scheduler stops

        _train(config, parameters, device, report)

    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(run, resources),
            param_space={"number": tune.grid_search(list(range(config.n_trials)))},
            tune_config=tune.TuneConfig(
                metric="validation_accuracy", mode="max", scheduler=_scheduler(config)
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    if results.errors:
        raise results.errors[0]
    finished = {result.config["number"]: result.metrics for result in results}
    names = ("epochs", "validation_accuracy", "diverged")
    return [
        parameters | {name: finished[number][name] for name in names}
        for number, parameters in enumerate(proposals)
    ]


def _scheduler(config: SearchConfig):
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if config.grace_epochs is None:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epochs",
        max_t=config.training.epochs,
        grace_period=config.grace_epochs,
        reduction_factor=REDUCTION,
    )
