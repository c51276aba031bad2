"""Train a network, or several seeds of a small one as one vectorised ensemble (B21 Section 4)."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from reluprime.config import study
from reluprime.instruments import data, models
from reluprime.instruments.batches import Batches, FolderBatches
from reluprime.instruments.precision import best_device, numerics
from reluprime.instruments.watch import UnitRanges, relu_calls
from reluprime.training.checkpoint import Checkpoint
from reluprime.training.config import TrainingConfig
from reluprime.training.loop import EnsembleRun, EpochSums, SingleRun, Trainer, make_optimizer
from reluprime.training.networks import build_networks, seeds_of


@study("training.fit", version=1)
def fit(
    config: TrainingConfig,
    device: torch.device | None = None,
    stop: Callable[[dict], bool] | None = None,
) -> dict:
    """Train on mean cross-entropy; a run that diverges stops there and is a result.

    Returns, with one list for each network and in it a value for each epoch done:

    - train_loss, train_accuracy: means over the epoch's mini-batches as they were trained
    - test_accuracy (or validation_accuracy): share of images, after the epoch
    - affected_steps: mini-batches with at least one pre-activation exactly at a kink
    - exact_zeros: {activation: the same, counted in pre-activations}; training passes alone
    - exact_sixes: with relu6 alone, the same for pre-activations of exactly 6
    - kinks: with a kink_width alone, the same for pre-activations in the band, exact zeros among
      them, of the activations that have one; affected_steps are those of exact zeros all the same
    - dead_units, always_on_units: with count_units alone, {activation: units whose pre-activations
      in the evaluation after the epoch are all <= 0, or all > 0}; see
      :class:`reluprime.instruments.watch.UnitRanges`

    and for all networks together:

    - relu_calls: {activation: pre-activations in one epoch of one network}; n_batches
    - units: with count_units alone, {activation: its units}
    - seconds: wall time of each epoch, with its evaluation
    - diverged_epoch: for each network the first epoch (from 0) after which the loss or a weight
      is not finite, or None. The run ends when all networks have diverged.

    After an epoch, but at most every two seconds, the state is kept in the folder
    RELUPRIME_CHECKPOINTS (by default ~/.cache/reluprime/checkpoints) until the run ends, so a run
    that was killed goes on from there, with the same bits. Members of an ensemble equal the same
    run alone up to rounding: their matrix products are batched, so sums and exact zeros may differ.

    `stop` is called after each epoch with what is known so far, and ends the run if it says so,
    as a search does with a trial that falls behind.

    Raises ValueError for a kink_layer beyond the network's activations, and DataError for anything
    wrong with the data, such as an image-folder whose fingerprint is another. As many processes
    read it as torch has threads (OMP_NUM_THREADS).

    Source: B21 Section 4 and Appendix D; optimizer and schedule as in its release.
    """
    device = best_device() if device is None else torch.device(device)
    with numerics(config.precision, device) as dtype:
        make = _batches_of_folder if config.dataset == "image-folder" else _batches
        return _fit(config, make(config, device, dtype), device, dtype, stop)


def trained(
    config: TrainingConfig, device: torch.device | None = None
) -> tuple[nn.Module, Tensor, Tensor]:
    """The network of a run of one, as :func:`fit` leaves it, and its images of evaluation.

    -> network (in evaluation mode), images (n, channels, height, width) as it takes them, labels
    (n,). Nothing is recorded and no checkpoint kept. Raises ValueError for an image-folder, which
    :func:`fit` alone reads, and DataError for anything wrong with the data.
    """
    device = best_device() if device is None else torch.device(device)
    with numerics(config.precision, device) as dtype:
        batches = _batches(config, device, dtype)
        (network,) = build_networks(config, batches, device, dtype)
        run = SingleRun(network)
        trainer = Trainer(config, run, make_optimizer(config, run.weights, device), device)
        for epoch in range(config.epochs):
            trainer.epoch(batches, epoch)
        images, labels = zip(*((x[0], y[0]) for x, y in batches.evaluation()), strict=True)
        return network, torch.cat(images), torch.cat(labels)


def _batches(config: TrainingConfig, device: torch.device, dtype: torch.dtype) -> Batches:
    dataset = data.load(config.dataset, device=device)
    return Batches(
        models.as_input(dataset, config),
        dtype,
        seeds=seeds_of(config),
        batch_size=config.batch_size,
        n_train=config.n_train,
        augment=config.augment,
        validation=config.evaluate_on == "validation",
    )


def _batches_of_folder(
    config: TrainingConfig, device: torch.device, dtype: torch.dtype
) -> FolderBatches:
    if config.image_folder is None:
        raise data.DataError("where is the folder of images? `compute` takes --image-folder")
    found = data.fingerprint(config.image_folder)
    if found != config.fingerprint:
        raise data.DataError(
            f"{config.image_folder} has the fingerprint {found}, not {config.fingerprint}: files "
            "were added, removed or changed, or it is another folder"
        )
    return FolderBatches(
        config.image_folder,
        dtype,
        seed=config.seed,
        batch_size=config.batch_size,
        device=device,
        workers=torch.get_num_threads(),
    )


@torch.no_grad()
def _evaluate(config: TrainingConfig, run, batches) -> tuple[list[float], UnitRanges | None]:
    """-> the accuracy of each network, and the units' ranges where they are counted."""
    correct, ranges = 0, UnitRanges(run.network) if config.count_units else None
    for x, y in batches.evaluation():
        with ranges.one_pass() if ranges else nullcontext():
            correct = correct + (run.forward(x)[0].argmax(-1) == y).sum(1)
    return (correct.double() / batches.n_evaluation).tolist(), ranges


def _finite(run, sums: EpochSums) -> list[bool]:
    """For each network whether its loss and all its weights are finite."""
    finite = sums.loss.isfinite()
    for weight in run.weights:
        finite &= weight.detach().reshape(len(finite), -1).isfinite().all(1)
    return finite.tolist()


def _append(history: dict, config, run, sums: EpochSums, batches, epoch: int, began: float) -> None:
    """Put an epoch's numbers into the history; networks that have diverged get none."""
    finite, (accuracy, ranges) = _finite(run, sums), _evaluate(config, run, batches)
    values = {
        "train_loss": (sums.loss / batches.n_train).tolist(),
        "train_accuracy": (sums.correct.double() / batches.n_train).tolist(),
        f"{config.evaluate_on}_accuracy": accuracy,
        "affected_steps": sums.affected.tolist(),
    }
    counts = {kink: {name: n.tolist() for name, n in h.items()} for kink, h in sums.hits.items()}
    if ranges:  # of one network
        history["units"] = ranges.sizes()
        for what, found in ranges.counts().items():
            counts[what] = {name: [n] for name, n in found.items()}
    for member in range(config.n_networks):
        if history["diverged_epoch"][member] is not None:
            continue
        for name, value in values.items():
            history[name][member].append(value[member])
        for what, by_activation in counts.items():
            for name, n in by_activation.items():
                lists = history.setdefault(what, {}).setdefault(name, [[] for _ in finite])
                lists[member].append(n[member])
        if not finite[member]:
            history["diverged_epoch"][member] = epoch
    history["seconds"].append(round(time.perf_counter() - began, 3))


def _relu_calls(network: nn.Module, batches) -> dict[str, int]:
    """Pre-activations of each activation in one epoch."""
    x, _ = next(iter(batches.evaluation()))
    calls = relu_calls(network, x[0, :1])
    return {name: n * batches.n_train for name, n in calls.items()}


SAVE_SECONDS = 2.0  # at least, between two checkpoints: one may take as long as an epoch


def _empty_history(config: TrainingConfig, network: nn.Module, batches) -> dict:
    """The results of :func:`fit` before the first epoch."""
    lists = ("train_loss", "train_accuracy", f"{config.evaluate_on}_accuracy", "affected_steps")
    return {
        **{name: [[] for _ in range(config.n_networks)] for name in lists},
        "exact_zeros": {},
        "relu_calls": _relu_calls(network, batches),
        "n_batches": math.ceil(batches.n_train / config.batch_size),
        "seconds": [],
        "diverged_epoch": [None] * config.n_networks,
    }


def _fit(config, batches, device: torch.device, dtype: torch.dtype, stop) -> dict:
    """:func:`fit` on given mini-batches, from its checkpoint on if there is one."""
    networks = list(build_networks(config, batches, device, dtype))
    run = SingleRun(networks[0]) if len(networks) == 1 else EnsembleRun(networks)
    optimizer = make_optimizer(config, run.weights, device)
    checkpoint = Checkpoint(config, fit.version, device)
    history = checkpoint.load(run, optimizer) or _empty_history(config, networks[0], batches)
    stopped = stop is not None and history["seconds"] and stop(history)  # before it was killed
    trainer, saved = Trainer(config, run, optimizer, device), time.monotonic()
    for epoch in range(len(history["seconds"]), config.epochs):
        if stopped or None not in history["diverged_epoch"]:
            break
        began = time.perf_counter()
        trainer.epoch(batches, epoch)
        _append(history, config, run, trainer.sums, batches, epoch, began)
        if time.monotonic() - saved >= SAVE_SECONDS:
            checkpoint.save(run, optimizer, history)
            saved = time.monotonic()
        stopped = stop is not None and stop(history)
    checkpoint.remove()
    return history
