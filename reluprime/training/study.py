"""Train a network, or several seeds of a small one as one vectorised ensemble (B21 Section 4)."""

import copy
import functools
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from reluprime.config import DatasetName, later, study
from reluprime.instruments import data, graphs, models
from reluprime.instruments.activations import ACTIVATIONS, GradientRule, ReLU, ReLU6, count_kinks
from reluprime.instruments.batches import Batches, FolderBatches, generator
from reluprime.instruments.precision import Precision, best_device, numerics
from reluprime.instruments.units import UnitRanges


class TrainingConfig(models.NetworkConfig):
    """One training run, or `n_networks` runs with successive seeds as one ensemble."""

    dataset: Literal[DatasetName, "image-folder"] = "mnist"
    image_folder: str | None = Field(default=None, exclude=True)  # its root; not in records
    fingerprint: str | None = later(None)  # data.fingerprint of that folder
    hidden_sizes: tuple[PositiveInt, ...] = (2048, 2048, 2048)  # B21 4.1
    activation: Literal["relu", "relu6"] = later("relu")
    # Which activations have s and s_upper: all, the first one (M23's ResNet as it was run) or
    # none (M23's MobileNet as it was run); the others have 0.
    activation_sites: Literal["all", "first", "none"] = later("all")
    s: float = 0.0  # derivative at 0
    s_upper: float = later(0.0)  # derivative at 6, relu6 only
    gradient_rule: GradientRule = "chain"
    # Our intervention: the rule wherever |pre-activation| <= kink_width, in every activation or in
    # the kink_layer-th of the forward pass alone (from 1). s holds at exact zeros in all alike.
    kink_width: NonNegativeFloat = later(0.0)  # relu only
    kink_layer: PositiveInt | None = later(None)
    precision: Precision = "fp32"  # of weights, activations, gradients and optimizer
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # after each hidden layer of an mlp
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: PositiveFloat = 0.01  # at the first epoch
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd; the release's, not in the paper
    weight_decay: NonNegativeFloat = 5e-4  # the release's, not in the paper
    schedule: Literal["cosine", "constant"] = "cosine"  # of lr, by epoch
    loss_scale: PositiveFloat = 1.0  # gradients are divided by it before the step
    clip_norm: PositiveFloat | None = later(None)  # of the whole gradient (L2), as it is stepped
    batch_size: PositiveInt = 128  # images; B21 Table 2
    epochs: PositiveInt = 200  # B21 Table 2
    n_train: PositiveInt | None = None  # the first training images; None: all
    augment: bool = False  # random crop and flip; an image-folder always has its own
    evaluate_on: Literal["test", "validation"] = "test"  # validation: last fifth of training
    count_units: bool = later(False)  # those that are dead, or on, for all images of evaluation
    seed: Annotated[int, Field(ge=0)] = 0  # of initial weights, order, crops and dropout
    n_networks: PositiveInt = 1  # seeds seed, seed + 1, ... trained as one ensemble

    @model_validator(mode="after")
    def _fits_together(self):
        if self.dropout and self.architecture != "mlp":
            raise ValueError(f"dropout={self.dropout}: only an mlp has it")
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"momentum={self.momentum} is sgd's; with adam it must be 0")
        if self.s_upper and self.activation != "relu6":
            raise ValueError(f"s_upper={self.s_upper}: only relu6 has a kink at 6")
        if self.n_networks > 1 and (self.architecture != "mlp" or self.dropout):
            raise ValueError(
                f"n_networks={self.n_networks}: only an mlp without dropout can be an ensemble"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_intervention(self):
        if self.kink_width and self.activation != "relu":
            raise ValueError(f"kink_width={self.kink_width}: {self.activation} has no band")
        if self.kink_layer and not self.kink_width:
            raise ValueError(f"kink_layer={self.kink_layer}: without kink_width there is no band")
        if self.kink_layer and self.architecture == "mlp":
            _check_layer(self.kink_layer, len(self.hidden_sizes))
        alone = {"kink_width": 0.0, "clip_norm": None, "count_units": False}
        for name, value in alone.items() if self.n_networks > 1 else ():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: with n_networks={self.n_networks} it must be "
                    f"{value!r}"
                )
        return self

    @model_validator(mode="after")
    def _fits_the_image_folder(self):
        from_folder = self.dataset == "image-folder"
        if {self.image_folder is not None, self.fingerprint is not None} != {from_folder}:
            raise ValueError(
                f"dataset={self.dataset!r} with image_folder={self.image_folder!r} and "
                f"fingerprint={self.fingerprint!r}: 'image-folder' needs both, others take neither"
            )
        if from_folder and not self.architecture.startswith("resnet"):
            raise ValueError(f"architecture={self.architecture!r}: an image-folder needs a ResNet")
        fixed = {"n_train": None, "augment": False, "evaluate_on": "test", "n_networks": 1}
        for name, value in fixed.items() if from_folder else ():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: with an image-folder it must be {value!r}"
                )
        return self


def _check_layer(kink_layer: int, n_activations: int) -> None:
    if kink_layer > n_activations:
        raise ValueError(f"kink_layer={kink_layer}: the network has {n_activations} activations")


def conditions(
    base: TrainingConfig, s_values: list[float], rules: list[str], seeds: int
) -> list[TrainingConfig]:
    """`base` at each s, gradient rule and seed 0, 1, ...; s=0 once, as the rules agree there."""
    arms = [(s, rule) for s in s_values for rule in (rules if s else ["chain"])]
    return [
        base.replace(s=float(s), gradient_rule=rule, seed=seed)
        for seed in range(seeds)
        for s, rule in arms
    ]


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
      :mod:`reluprime.instruments.units`

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
        make = _folder_batches if config.dataset == "image-folder" else _batches
        return _fit(config, make(config, device, dtype), device, dtype, stop)


def trained(
    config: TrainingConfig, device: torch.device | None = None
) -> tuple[nn.Module, Tensor, Tensor]:
    """The network of a run of one, as :func:`fit` leaves it, and its images of evaluation.

    -> network (in evaluation mode), images (n, channels, height, width) as it takes them, labels
    (n,). Nothing is recorded and no checkpoint kept.
    """
    device = best_device() if device is None else torch.device(device)
    with numerics(config.precision, device) as dtype:
        batches = _batches(config, device, dtype)
        (network,) = _networks(config, batches, device, dtype)
        run = _Single(network)
        trainer = _Trainer(config, run, _optimizer(config, run.weights, device), device)
        for epoch in range(config.epochs):
            trainer.epoch(batches, epoch)
        images, labels = zip(*((x[0], y[0]) for x, y in batches.evaluation()), strict=True)
        return network, torch.cat(images), torch.cat(labels)


def _batches(config: TrainingConfig, device: torch.device, dtype: torch.dtype) -> Batches:
    dataset = data.load(config.dataset, device=device)
    return Batches(
        dataset if config.architecture == "mlp" else data.as_rgb_32(dataset),
        dtype,
        seeds=_seeds(config),
        batch_size=config.batch_size,
        n_train=config.n_train,
        augment=config.augment,
        validation=config.evaluate_on == "validation",
    )


def _folder_batches(
    config: TrainingConfig, device: torch.device, dtype: torch.dtype
) -> FolderBatches:
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


def _seeds(config: TrainingConfig) -> list[int]:
    return list(range(config.seed, config.seed + config.n_networks))


def _activation(config: TrainingConfig, has_s: bool) -> nn.Module:
    s, s_upper = (config.s, config.s_upper) if has_s else (0.0, 0.0)
    if config.activation == "relu6":
        return ReLU6(s, s_upper, config.gradient_rule)
    return ReLU(s, config.gradient_rule)


def _sites(network: nn.Module) -> list[str]:
    """The activations, in the order in which a forward pass comes to them."""
    return [name for name, m in network.named_modules() if isinstance(m, ACTIVATIONS)]


def _give_s(network: nn.Module, config: TrainingConfig) -> None:
    """Replace activations of a network by ones with the config's s and s_upper, in place.

    A network is built with s=0 in all of them. config.activation_sites says which are replaced:
    all, the one that a forward pass meets first, or none.
    """
    sites = _sites(network)
    for name in sites[: {"all": len(sites), "first": 1, "none": 0}[config.activation_sites]]:
        network.set_submodule(name, _activation(config, has_s=True))


def _give_band(network: nn.Module, config: TrainingConfig) -> None:
    """Widen the kinks of one activation, or of all; built with exact ones."""
    sites = _sites(network)
    if config.kink_layer:
        _check_layer(config.kink_layer, len(sites))
        sites = [sites[config.kink_layer - 1]]
    for name in sites:
        network.get_submodule(name).kink_width = config.kink_width


def _networks(config: TrainingConfig, batches, device: torch.device, dtype: torch.dtype):
    for seed in _seeds(config):
        network = models.build(
            config,
            batches.image_shape,
            batches.n_classes,
            functools.partial(_activation, config, has_s=False),
            seed=seed,
            dropout=config.dropout,
        )
        _give_s(network, config)
        if config.kink_width:
            _give_band(network, config)
        if config.architecture == "mlp":
            yield network.to(device, dtype)
        else:  # the faster layout for convolutions on both kinds of device
            yield network.to(device, dtype, memory_format=torch.channels_last)


class _Single:
    """One network; x is (1, batch, ...), logits are (1, batch, classes)."""

    def __init__(self, network: nn.Module):
        self.network = network
        self.weights = list(network.parameters())
        self.state = network.state_dict()  # shares the tensors
        self._hits: dict[str, Tensor] = {}

    @contextmanager
    def training(self) -> Iterator[None]:
        """In training mode, and with exact zeros counted."""
        self.network.train()
        with count_kinks(self.network) as self._hits:
            yield
        self.network.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-> logits, and while training for each activation its hits (networks, kinks).

        Those of an activation with a band are one more: see :func:`activations.count_kinks`.
        """
        x = x[0].contiguous(memory_format=torch.channels_last) if x[0].dim() == 4 else x[0]
        self._hits.clear()
        logits = self.network(x).unsqueeze(0)
        return logits, {name: n.unsqueeze(0) for name, n in self._hits.items()}


class _Ensemble:
    """Networks of one shape, their weights stacked; x is (networks, batch, ...) or (1, ...)."""

    def __init__(self, networks: list[nn.Module]):
        weights, buffers = stack_module_state(networks)
        self.weights, self.state = list(weights.values()), weights | buffers
        self.size, self._stacked = len(networks), (weights, buffers)
        self.template = copy.deepcopy(networks[0]).to("meta")

    @contextmanager
    def training(self) -> Iterator[None]:
        self.template.train()
        yield
        self.template.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        def member(state, x):
            with count_kinks(self.template, under_vmap=True) as hits:
                logits = functional_call(self.template, state, (x,))
            return logits, dict(hits)

        return vmap(member)(self._stacked, x.expand(self.size, *x.shape[1:]))


@functools.cache
def _fused_sgd_steps(dtype: torch.dtype, device_type: str) -> bool:
    """Whether fused SGD moves weights: PyTorch 2.11's leaves most 16-bit ones on a CPU."""
    weight = torch.zeros(64, dtype=dtype, device=device_type, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    torch.optim.SGD([weight], lr=1.0, fused=True).step()
    return bool(weight.all())


def _optimizer(
    config: TrainingConfig, weights: list[Tensor], device: torch.device
) -> torch.optim.Optimizer:
    recorded = graphs.captures(device)
    # A CUDA graph reads the rate, as fp32, from where it is; a number would be recorded with it.
    lr = torch.tensor(config.lr, device=device) if recorded else config.lr
    common = {"lr": lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adam":
        return torch.optim.Adam(weights, **common, fused=True, capturable=recorded)
    fused = _fused_sgd_steps(weights[0].dtype, device.type)
    return torch.optim.SGD(weights, momentum=config.momentum, **common, fused=fused)


def _rate(config: TrainingConfig, epoch: int) -> float:
    if config.schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * epoch / config.epochs)) / 2


KINKS = ("exact_zeros", "exact_sixes")  # results that count them, in the activations' order


class _Sums:
    """Numbers of an epoch, added up on the device: the host waits for them once."""

    def __init__(self, n_kinks: int):
        self._n_kinks = n_kinks  # exact ones of an activation
        self._totals: list[Tensor] = []

    def reset(self) -> None:
        for total in self._totals:
            total.zero_()

    def add(self, losses: Tensor, logits: Tensor, y: Tensor, hits: dict[str, Tensor]) -> None:
        n = self._n_kinks
        exact = torch.stack([h[:, :n] for h in hits.values()])  # (activations, networks, kinks)
        bands = {name: h[:, n] for name, h in hits.items() if h.shape[1] > n}
        values = (
            losses.detach().double() * y.shape[1],
            (logits.detach().argmax(-1) == y).sum(1),
            exact,
            exact.any(-1).any(0).long(),
            *bands.values(),
        )
        if not self._totals:
            self._names, self._banded = list(hits), list(bands)
            self._totals = [torch.zeros_like(value) for value in values]
        for total, value in zip(self._totals, values, strict=True):
            total.add_(value)

    def close(self) -> None:
        # (networks,) each, and see add
        self.loss, self.correct, hits, self.affected, *bands = self._totals
        by_kink = hits.unbind(-1)  # one kink, or two with relu6
        self.hits = {
            kink: dict(zip(self._names, n, strict=True))
            for kink, n in zip(KINKS, by_kink, strict=False)
        }
        if bands:
            self.hits["kinks"] = dict(zip(self._banded, bands, strict=True))


def _seed_dropout(seed: int, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch every device


class _Trainer:
    """Optimises a run; the numbers of its last epoch are in `sums`."""

    def __init__(self, config: TrainingConfig, run, optimizer, device: torch.device):
        self.config, self.run, self.optimizer, self.device = config, run, optimizer, device
        self.sums = _Sums(n_kinks=2 if config.activation == "relu6" else 1)
        self._run_step = graphs.runner(device)

    def epoch(self, batches, epoch: int) -> None:
        self._set_rate(_rate(self.config, epoch))
        self.sums.reset()
        rng = [self.device] if self.device.type == "cuda" else []
        with self.run.training(), torch.random.fork_rng(devices=rng):
            _seed_dropout(generator(self.config.seed, epoch).initial_seed(), self.device)
            for x, y in batches.train(epoch):
                self._run_step(self._step, x, y)
        self.sums.close()

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _step(self, x: Tensor, y: Tensor) -> None:
        logits, hits = self.run.forward(x)  # (networks, batch, classes)
        losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
        losses = losses.view(y.shape).mean(1)
        self.optimizer.zero_grad()
        scale = self.config.loss_scale
        losses.backward(torch.full_like(losses, scale))
        if scale != 1:
            for weight in self.run.weights:
                weight.grad.div_(scale)
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.run.weights, self.config.clip_norm)
        self.optimizer.step()
        self.sums.add(losses, logits, y, hits)


@torch.no_grad()
def _evaluate(config: TrainingConfig, run, batches) -> tuple[list[float], UnitRanges | None]:
    """-> the accuracy of each network, and the units' ranges where they are counted."""
    correct, ranges = 0, UnitRanges(run.network) if config.count_units else None
    for x, y in batches.evaluation():
        with ranges.one_pass() if ranges else nullcontext():
            correct = correct + (run.forward(x)[0].argmax(-1) == y).sum(1)
    return (correct.double() / batches.n_evaluation).tolist(), ranges


def _finite(run, sums: _Sums) -> list[bool]:
    finite = sums.loss.isfinite()
    for weight in run.weights:
        finite &= weight.detach().reshape(len(finite), -1).isfinite().all(1)
    return finite.tolist()


def _append(history: dict, config, run, sums: _Sums, batches, epoch: int, began: float) -> None:
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
    calls = models.relu_calls(network, x[0, :1])
    return {name: n * batches.n_train for name, n in calls.items()}


SAVE_SECONDS = 2.0  # at least, between two checkpoints: one may take as long as an epoch


class _Checkpoint:
    """The state of a run after an epoch, on disk until the run ends."""

    def __init__(self, config: TrainingConfig, device: torch.device):
        folder = os.environ.get("RELUPRIME_CHECKPOINTS", "~/.cache/reluprime/checkpoints")
        cell = [fit.version, torch.__version__, device.type, config.model_dump_json()]
        name = hashlib.sha256(repr(cell).encode()).hexdigest()[:16]
        self.path = Path(folder).expanduser() / f"{name}.pt"

    def save(self, run, optimizer: torch.optim.Optimizer, history: dict) -> None:
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
        self.path.unlink(missing_ok=True)


def _start(config: TrainingConfig, network: nn.Module, batches) -> dict:
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
    networks = list(_networks(config, batches, device, dtype))
    run = _Single(networks[0]) if len(networks) == 1 else _Ensemble(networks)
    optimizer = _optimizer(config, run.weights, device)
    checkpoint = _Checkpoint(config, device)
    history = checkpoint.load(run, optimizer) or _start(config, networks[0], batches)
    stopped = stop is not None and history["seconds"] and stop(history)  # before it was killed
    trainer, saved = _Trainer(config, run, optimizer, device), time.monotonic()
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
