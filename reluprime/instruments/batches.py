"""Mini-batches for training, from memory (B21 4.1, D.1) or from a folder of images (B21 4.2).

Everything random comes from CPU generators seeded by (seed, epoch), so that an epoch has the same
mini-batches on every device and after every resume.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from reluprime.config import MOST_EPOCHS
from reluprime.instruments.data import DataError, Dataset, unit_images
from reluprime.instruments.images import open_image

PADDING = 4  # pixels on each side, of value 0, before the random crop
VALIDATION = 5  # the last fifth of the training images is the validation split
EVALUATION = 500  # images of a mini-batch without gradients
CHUNK = 1000  # images converted at once: small enough for a CPU's cache
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of the channels, scaled to [0, 1]; torchvision's
IMAGENET_STD = (0.229, 0.224, 0.225)


def generator(seed: int, epoch: int) -> torch.Generator:
    """A CPU generator of its own for each (seed, epoch)."""
    if not 0 <= epoch < MOST_EPOCHS:
        raise ValueError(f"epoch={epoch}; it must be from 0 to {MOST_EPOCHS - 1}")
    return torch.Generator().manual_seed(MOST_EPOCHS * seed + epoch)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,) in fp32 of uint8 images scaled to [0, 1].

    Computed from the counts of the 256 values, so exact and the same on every device.
    """
    values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    counts = [
        sum(torch.bincount(part.flatten(), minlength=256) for part in channel.split(CHUNK))
        for channel in images.unbind(1)
    ]
    shares = torch.stack(counts).double() * (images.shape[1] / images.numel())
    mean = shares @ values
    return mean.float(), (shares @ values**2 - mean**2).sqrt().float()


def _normalised(images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    return ((unit_images(images, torch.float32) - mean) / std).to(dtype)


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
            if first == len(images):
                raise ValueError(f"n_train={n_train} leaves no image for the validation split")
            held_out = (images[first:], labels[first:])
            images, labels = images[:first], labels[:first]
        self.seeds, self.batch_size, self.dtype, self.augment = seeds, batch_size, dtype, augment
        self.n_train, self.n_evaluation = len(images), len(held_out[0])
        self.image_shape = tuple(images.shape[1:])
        self.n_classes = int(dataset.train_labels.max()) + 1
        mean, std = channel_statistics(images)
        self._mean, self._std = mean[:, None, None], std[:, None, None]
        self._labels, self._held_out = labels, (self._all_normalised(held_out[0]), held_out[1])
        padded = torch.nn.functional.pad(images, [PADDING] * 4) if augment else None
        self._images = padded if augment else self._all_normalised(images)

    def _normalised(self, images: Tensor) -> Tensor:
        return _normalised(images, self._mean, self._std, self.dtype)

    def _all_normalised(self, images: Tensor) -> Tensor:
        whole = torch.empty(images.shape, dtype=self.dtype, device=images.device)
        for part, converted in zip(images.split(CHUNK), whole.split(CHUNK), strict=True):
            converted.copy_(self._normalised(part))
        return whole

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        orders = [self._order(generator(seed, epoch)) for seed in self.seeds]
        indices, crops = (
            torch.stack(parts).to(self._labels.device) for parts in zip(*orders, strict=True)
        )
        for start in range(0, self.n_train, self.batch_size):
            now = slice(start, start + self.batch_size)
            chosen = indices[:, now]
            x = self._cropped(chosen, crops[:, now]) if self.augment else self._whole(chosen)
            yield x, self._labels[chosen]

    def _whole(self, chosen: Tensor) -> Tensor:
        # Copies whole images, where indexing would look up one pixel after the other.
        return self._images.index_select(0, chosen.flatten()).unflatten(0, chosen.shape)

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


class FolderBatches:
    """Training and evaluation mini-batches of ImageNet or another folder of images, from disk.

    `root` holds train/CLASS/* and val/CLASS/*, as torchvision's ImageFolder reads them. The
    interface is that of :class:`Batches` with one seed; val/ is evaluated on. A training image is
    cropped at random to 8-100 % of its area, resized to 224x224 and flipped half of the time; for
    evaluation its short side is resized to 256 and the central 224x224 are cut out. Channels are
    normalised by ImageNet's usual mean and deviation.

    `workers` processes decode (0: this one does); an epoch's bits do not depend on their number.
    Raises DataError for a wrong layout, and in mid-epoch for an image that does not decode.
    """

    image_shape = (3, 224, 224)

    def __init__(
        self,
        root: str | os.PathLike,
        dtype: torch.dtype,
        *,
        seed: int,
        batch_size: int,
        device: torch.device,
        workers: int,
    ):
        root = Path(root).expanduser()
        crop = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
        centre = [transforms.Resize(256), transforms.CenterCrop(224)]
        self._train, self._val = _folder(root / "train", crop), _folder(root / "val", centre)
        if odd := sorted({*self._train.classes} ^ {*self._val.classes}):
            raise DataError(f"{root}: classes in only one of train and val: {', '.join(odd)}")
        self.seed, self.batch_size, self.dtype = seed, batch_size, dtype
        self.n_train, self.n_evaluation = len(self._train), len(self._val)
        self.n_classes = len(self._train.classes)
        self._device, self._workers = device, workers
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        random = generator(self.seed, epoch)
        order = torch.randperm(self.n_train, generator=random)
        seeds = torch.randint(2**32, (self.n_train,), generator=random)
        return self._mini_batches(_Images(self._train, seeds), order)

    def evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        seeds = torch.zeros(self.n_evaluation, dtype=torch.int64)  # nothing is drawn
        return self._mini_batches(_Images(self._val, seeds), torch.arange(self.n_evaluation))

    def _mini_batches(self, images: "_Images", order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            images,
            self.batch_size,
            sampler=order.tolist(),
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the global random state
        )
        for batch in loader:
            x, y = (part.to(self._device, non_blocking=True).unsqueeze(0) for part in batch)
            yield _normalised(x, self._mean, self._std, self.dtype), y


def _folder(path: Path, steps: list) -> ImageFolder:
    try:
        steps = transforms.Compose([*steps, transforms.PILToTensor()])
        return ImageFolder(path, steps, loader=open_image)
    except OSError as error:  # no such folder, no class in it, or an empty class
        raise DataError(f"{path} is not an image folder: {error}") from error


class _Images(torch.utils.data.Dataset):
    """uint8 images (3, 224, 224) with labels, each drawn from a random state of its own."""

    def __init__(self, folder: ImageFolder, seeds: Tensor):
        self.folder, self.seeds = folder, seeds

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global random state
            torch.default_generator.manual_seed(int(self.seeds[index]))
            return self.folder[index]
