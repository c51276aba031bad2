"""Mini-batches for training: shuffled, cropped and normalised on the device (B21 4.1, D.1).

Everything random comes from CPU generators seeded by (seed, epoch), so that an epoch has the same
mini-batches on every device and after every resume.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from reluprime.data import Dataset, unit_images

PADDING = 4  # pixels on each side, of value 0, before the random crop
VALIDATION = 5  # the last fifth of the training images is the validation split
EVALUATION = 500  # images of a mini-batch without gradients


def generator(seed: int, epoch: int) -> torch.Generator:
    """A CPU generator of its own for each (seed, epoch)."""
    if not 0 <= epoch < 100_000:
        raise ValueError(f"epoch={epoch}; it must be from 0 to 99999")
    return torch.Generator().manual_seed(100_000 * seed + epoch)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,) in fp32 of uint8 images scaled to [0, 1].

    Computed from the counts of the 256 values, so exact and the same on every device.
    """
    values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    counts = [torch.bincount(c.flatten().int(), minlength=256) for c in images.unbind(1)]
    shares = torch.stack(counts).double() * (images.shape[1] / images.numel())
    mean = shares @ values
    return mean.float(), (shares @ values**2 - mean**2).sqrt().float()


class Batches:
    """Training and evaluation mini-batches of a data set in memory, for each seed its own.

    train(epoch) yields (x, y): x of `dtype` (seeds, batch, channels, height, width), y int64
    (seeds, batch); the last mini-batch is shorter. evaluation() yields the same of the test
    images, or with `validation` of the last fifth of the training images, in order and with one
    common "seed". Images are scaled to [0, 1] and normalised by the mean and the standard
    deviation of the channels over the training images that are used. `augment`: a random crop
    after padding by 4 and a random horizontal flip.
    """

    def __init__(
        self,
        dataset: Dataset,
        dtype: torch.dtype,
        *,
        seeds: list[int],
        batch_size: int,
        n_train: int | None = None,
        augment: bool = False,
        validation: bool = False,
    ):
        images, labels = dataset.train_images[:n_train], dataset.train_labels[:n_train]
        if n_train is not None and len(images) < n_train:
            raise ValueError(f"n_train={n_train}, but {dataset.name} has {len(images)} images")
        held_out = (dataset.test_images, dataset.test_labels)
        if validation:
            first = len(images) - len(images) // VALIDATION
            held_out = (images[first:], labels[first:])
            images, labels = images[:first], labels[:first]
        self.seeds, self.batch_size, self.dtype, self.augment = seeds, batch_size, dtype, augment
        self.n_train, self.n_evaluation = len(images), len(held_out[0])
        self.image_shape = tuple(images.shape[1:])
        self.n_classes = int(dataset.train_labels.max()) + 1
        mean, std = channel_statistics(images)
        self._mean, self._std = mean[:, None, None], std[:, None, None]
        self._labels, self._held_out = labels, (self._normalised(held_out[0]), held_out[1])
        padded = torch.nn.functional.pad(images, [PADDING] * 4) if augment else None
        self._images = padded if augment else self._normalised(images)

    def _normalised(self, images: Tensor) -> Tensor:
        return ((unit_images(images, torch.float32) - self._mean) / self._std).to(self.dtype)

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        orders = [self._order(generator(seed, epoch)) for seed in self.seeds]
        indices, crops = (torch.stack(parts).to(self._labels.device) for parts in zip(*orders))
        for start in range(0, self.n_train, self.batch_size):
            now = slice(start, start + self.batch_size)
            chosen = indices[:, now]
            x = self._cropped(chosen, crops[:, now]) if self.augment else self._images[chosen]
            yield x, self._labels[chosen]

    def _order(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """-> a permutation (n,), and for each place top, left and flip (n, 3)."""
        order = torch.randperm(self.n_train, generator=random)
        if not self.augment:
            return order, torch.empty(0, 0)
        corners = torch.randint(2 * PADDING + 1, (self.n_train, 2), generator=random)
        return order, torch.cat([corners, torch.randint(2, (self.n_train, 1), generator=random)], 1)

    def _cropped(self, chosen: Tensor, crops: Tensor) -> Tensor:
        channels, height, width = self.image_shape
        top, left, flip = (part.unsqueeze(-1) for part in crops.unbind(-1))
        across = torch.arange(width, device=chosen.device)
        rows = top + torch.arange(height, device=chosen.device)  # (seeds, batch, height)
        columns = left + torch.where(flip == 1, width - 1 - across, across)
        channel = torch.arange(channels, device=chosen.device).view(-1, 1, 1)
        cut = self._images[
            chosen[..., None, None, None],
            channel,
            rows[..., None, :, None],
            columns[..., None, None, :],
        ]
        return self._normalised(cut)

    def evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._held_out
        for x, y in zip(images.split(EVALUATION), labels.split(EVALUATION), strict=True):
            yield x.unsqueeze(0), y.unsqueeze(0)
