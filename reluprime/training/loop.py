"""The loop over mini-batches: one network or an ensemble, its optimizer, and sums of an epoch."""

import copy
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from reluprime.instruments import graphs
from reluprime.instruments.batches import generator
from reluprime.instruments.watch import count_kinks
from reluprime.training.config import TrainingConfig


class SingleRun:
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
        """-> logits, and while training for each activation its hits, of shape (networks, kinks).

        Those of an activation with a band are one more: see :func:`watch.count_kinks`.
        """
        x = x[0].contiguous(memory_format=torch.channels_last) if x[0].dim() == 4 else x[0]
        self._hits.clear()
        logits = self.network(x).unsqueeze(0)
        return logits, {name: n.unsqueeze(0) for name, n in self._hits.items()}


class EnsembleRun:
    """Networks of one shape, their weights stacked; x is (networks, batch, ...) or (1, ...)."""

    def __init__(self, networks: list[nn.Module]):
        weights, buffers = stack_module_state(networks)
        self.weights, self.state = list(weights.values()), weights | buffers
        self.size, self._stacked = len(networks), (weights, buffers)
        self.template = copy.deepcopy(networks[0]).to("meta")

    @contextmanager
    def training(self) -> Iterator[None]:
        """In training mode; exact zeros are counted in any mode."""
        self.template.train()
        yield
        self.template.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-> logits (networks, batch, classes), and each activation's hits (networks, kinks)."""

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


def make_optimizer(
    config: TrainingConfig, weights: list[Tensor], device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer of a run, in PyTorch's fused form where that moves the weights."""
    recorded = graphs.captures(device)
    # A CUDA graph reads the rate, as fp32, from where it is; a number would be recorded with it.
    lr = torch.tensor(config.lr, device=device) if recorded else config.lr
    common = {"lr": lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adam":
        return torch.optim.Adam(weights, **common, fused=True, capturable=recorded)
    fused = _fused_sgd_steps(weights[0].dtype, device.type)
    return torch.optim.SGD(weights, momentum=config.momentum, **common, fused=fused)


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """The learning rate of an epoch (from 0)."""
    if config.schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * epoch / config.epochs)) / 2


# The results of `fit` that count exact kinks, in the order in which an activation counts them.
KINKS = ("exact_zeros", "exact_sixes")


class EpochSums:
    """Numbers of an epoch, added up on the device: the host waits for them once.

    After `close`: loss, correct (images) and affected (mini-batches), (networks,) each, and hits:
    {result that counts kinks: {activation: (networks,)}}.
    """

    def __init__(self, n_kinks: int):
        """n_kinks: the exact kinks of an activation, 1 or 2 (relu6)."""
        self._n_kinks = n_kinks
        self._totals: list[Tensor] = []

    def reset(self) -> None:
        """Begin an epoch."""
        for total in self._totals:
            total.zero_()

    def add(self, losses: Tensor, logits: Tensor, y: Tensor, hits: dict[str, Tensor]) -> None:
        """Add a mini-batch: losses (networks,), logits (networks, batch, classes), y, hits."""
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
        """Name the sums of an epoch that has ended."""
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


class Trainer:
    """Optimises a run; the numbers of its last epoch are in `sums`."""

    def __init__(self, config: TrainingConfig, run, optimizer, device: torch.device):
        self.config, self.run, self.optimizer, self.device = config, run, optimizer, device
        self.sums = EpochSums(n_kinks=2 if config.activation == "relu6" else 1)
        self._run_step = graphs.runner(device)

    def epoch(self, batches, epoch: int) -> None:
        """Train on each mini-batch of an epoch (from 0) once."""
        self._set_rate(learning_rate(self.config, epoch))
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
        """One mini-batch: x and labels y with one row of them a network, or one for all."""
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
