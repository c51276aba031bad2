"""Training from a folder of images that is never in memory whole."""

import json
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from reluprime.cli import main
from reluprime.instruments import data
from reluprime.instruments.batches import FolderBatches, generator
from reluprime.instruments.data import DataError
from reluprime.records import Store, cell_key
from reluprime.report import plan
from reluprime.training.config import TrainingConfig
from reluprime.training.study import fit

CPU = torch.device("cpu")
SIZES = [(300, 260), (230, 410), (40, 30), (256, 256)]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
TREE = {"train/cat": 3, "train/dog": 4, "val/cat": 2, "val/dog": 3}


def images_under(root, tree):
    """Write tree = {"train/cat": 2, ...} as PNG files of random pixels, every third one grey."""
    random = np.random.RandomState(0)
    for folder, count in tree.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            width, height = SIZES[i % len(SIZES)]
            pixels = random.randint(0, 256, (height, width, 3), dtype=np.uint8)
            mode = "L" if i % 3 == 2 else "RGB"
            Image.fromarray(pixels).convert(mode).save(root / folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of 7 training and 5 validation images; not to be changed."""
    return images_under(tmp_path_factory.mktemp("images"), TREE)


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("RELUPRIME_CHECKPOINTS", str(tmp_path / "checkpoints"))


def batches(root, dtype=torch.float32, seed=0, batch_size=3, workers=0):
    return FolderBatches(root, dtype, seed=seed, batch_size=batch_size, device=CPU, workers=workers)


def config(root, **changes):
    base = {
        "architecture": "resnet50",
        "width": 0.0625,
        "batch_norm": True,
        "dataset": "image-folder",
        "image_folder": str(root),
        "fingerprint": data.fingerprint(root),
        "batch_size": 3,
        "epochs": 2,
    }
    return TrainingConfig(**base | changes)


def bits(mini_batches):
    return [(x.numpy().tobytes(), y.tolist()) for x, y in mini_batches]


# ---- mini-batches ----


def test_an_epoch_has_each_image_once_and_its_own_order(folder):
    found = batches(folder)
    assert (found.n_train, found.n_evaluation, found.n_classes) == (7, 5, 2)
    assert found.image_shape == (3, 224, 224)
    for epoch in (0, 1):
        mini_batches = list(found.train(epoch))
        assert [x.shape for x, _ in mini_batches] == [(1, n, 3, 224, 224) for n in (3, 3, 1)]
        labels = torch.cat([y for _, y in mini_batches], dim=1)
        order = torch.randperm(7, generator=generator(0, epoch))
        assert labels.dtype == torch.int64
        assert torch.equal(labels, torch.tensor([[0, 0, 0, 1, 1, 1, 1]])[:, order])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_evaluation_is_of_the_centre_of_each_image_in_order(dtype, folder):
    mini_batches = list(batches(folder, dtype).evaluation())
    x = torch.cat([x for x, _ in mini_batches], dim=1)[0]
    assert (x.dtype, x.shape) == (dtype, (5, 3, 224, 224))
    assert torch.cat([y for _, y in mini_batches], dim=1).tolist() == [[0, 0, 1, 1, 1]]
    # By hand: the short side (230 of 230x410) to 256, the long one to 456, then the centre.
    image = Image.open(folder / "val" / "cat" / "1.png").resize((256, 456), Image.BILINEAR)
    pixels = np.asarray(image)[116:340, 16:240] / 255
    expected = torch.from_numpy(((pixels - MEAN) / STD).transpose(2, 0, 1))
    tolerance = 2e-3 if dtype == torch.float16 else 1e-6
    torch.testing.assert_close(x[1].double(), expected, rtol=tolerance, atol=tolerance)


def test_grey_images_become_rgb(folder):
    x = torch.cat([x for x, _ in batches(folder).evaluation()], dim=1)[0, 4]  # val/dog/2.png
    red, green, blue = x * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(red, green)
    torch.testing.assert_close(red, blue)


def test_training_images_are_crops_and_half_of_them_are_flipped(tmp_path):
    root = images_under(tmp_path, {"train/a": 1, "val/a": 1})
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(root / "train" / "a" / "0.png")
    found = batches(root)
    rows = torch.stack([next(found.train(epoch))[0][0, 0, 0, 112] for epoch in range(100)])
    assert len(rows.unique(dim=0)) == 100
    flipped = (rows[:, 0] > rows[:, -1]).sum()
    assert 30 < flipped < 70
    spans = (rows[:, -1] - rows[:, 0]).abs() * STD[0]
    assert spans.min() > 0.2  # shortest side of a crop: sqrt(0.08 * 3 / 4) = 0.245
    assert spans.max() > 0.9


def test_the_number_of_workers_changes_no_bit(folder):
    alone, helped = (batches(folder, workers=n) for n in (0, 2))
    for epoch in (0, 3):
        assert bits(alone.train(epoch)) == bits(helped.train(epoch))
    assert bits(alone.evaluation()) == bits(helped.evaluation())


def test_a_crop_belongs_to_the_image_whatever_the_batch_size(folder):
    small, large = (
        torch.cat([x for x, _ in batches(folder, batch_size=n).train(1)], dim=1) for n in (2, 7)
    )
    assert torch.equal(small, large)


def test_seeds_and_epochs_differ(folder):
    runs = [bits(batches(folder, seed=seed).train(epoch)) for seed, epoch in [(0, 0), (0, 1)]]
    runs.append(bits(batches(folder, seed=1).train(0)))
    assert runs[0] != runs[1]
    assert runs[0] != runs[2]
    assert runs[0] == bits(batches(folder).train(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_random_state_is_not_touched(workers, folder):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = batches(folder, workers=workers)
    list(found.train(0))
    list(found.evaluation())
    assert torch.equal(torch.get_rng_state(), before)


# ---- wrong folders ----


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"val/a": 1}, r"/train is not an image folder"),
        ({"train/a": 1}, r"/val is not an image folder"),
        ({"train": 0, "val/a": 1}, r"/train is not an image folder"),
        ({"train/a": 1, "train/b": 0, "val/a": 1, "val/b": 1}, r"/train .*for the classes b"),
        ({"train/a": 1, "val/a": 1, "val/b": 1}, r"only one of train and val: b"),
        ({"train/a": 1, "train/c": 1, "val/b": 1, "val/c": 1}, r"train and val: a, b$"),
    ],
    ids=["no train", "no val", "no class", "empty class", "one more class", "other classes"],
)
def test_a_wrong_layout_is_refused(tree, message, tmp_path):
    with pytest.raises(DataError, match=message):
        batches(images_under(tmp_path, tree))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "text"])
def test_a_broken_image_is_named(damage, workers, tmp_path):
    root = images_under(tmp_path, {"train/a": 2, "val/a": 2})
    path = root / "train" / "a" / "1.png"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        os.truncate(path, len(content) // 2)
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_text("not a picture")
    found = batches(root, workers=workers)
    list(found.evaluation())  # a broken image is no matter until it is read
    with pytest.raises(DataError, match=rf"{path} is not a readable image"):
        list(found.train(0))


# ---- the study ----


@pytest.fixture
def threads():
    """A function that sets torch's number of threads, and with it that of the workers."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_fit_trains_a_resnet50(folder, threads):
    threads(1)
    history = fit(config(folder), CPU)
    assert history["diverged_epoch"] == [None]
    assert history["n_batches"] == 3
    assert len(history["train_loss"][0]) == len(history["test_accuracy"][0]) == 2
    assert all(accuracy in (0, 0.2, 0.4, 0.6, 0.8, 1) for accuracy in history["test_accuracy"][0])
    assert history["relu_calls"]["relu"] == 7 * 4 * 112 * 112  # the stem, of 64 / 16 channels
    again = fit(config(folder), CPU)
    assert again | {"seconds": None} == history | {"seconds": None}


def test_fit_goes_on_with_the_same_bits_where_it_was_killed(folder, monkeypatch, threads):
    threads(1)
    monkeypatch.setattr("reluprime.training.study.SAVE_SECONDS", 0.0)
    whole = fit(config(folder), CPU)
    train, begun = FolderBatches.train, []

    def killed_once(self, epoch):
        begun.append(epoch)
        if begun == [0, 1]:
            raise KeyboardInterrupt
        return train(self, epoch)

    monkeypatch.setattr(FolderBatches, "train", killed_once)
    with pytest.raises(KeyboardInterrupt):
        fit(config(folder), CPU)
    resumed = fit(config(folder), CPU)
    assert begun == [0, 1, 1]
    assert resumed | {"seconds": None} == whole | {"seconds": None}


def test_fit_refuses_another_folder(tmp_path):
    root = images_under(tmp_path / "images", {"train/a": 1, "val/a": 1})
    before = config(root)
    (root / "val" / "a" / "0.png").rename(root / "val" / "a" / "1.png")
    now = data.fingerprint(root)
    with pytest.raises(DataError, match=rf"fingerprint {now}, not {before.fingerprint}"):
        fit(before, CPU)


# ---- the config ----


def test_records_know_a_folder_by_its_fingerprint_alone(folder):
    here = config(folder)
    assert "image_folder" not in here.model_dump()
    assert str(folder) not in here.model_dump_json()
    assert here.model_dump()["fingerprint"] == data.fingerprint(folder)
    moved, other = (
        here.model_copy(update=change)
        for change in ({"image_folder": "/elsewhere"}, {"fingerprint": "0" * 16})
    )
    assert cell_key(fit, moved) == cell_key(fit, here)
    assert cell_key(fit, other) != cell_key(fit, here)


def test_records_of_other_data_sets_have_no_fingerprint():
    for mode in ("python", "json"):
        assert not {"fingerprint", "image_folder"} & TrainingConfig().model_dump(mode=mode).keys()
    assert "fingerprint" not in TrainingConfig().model_dump_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": None}, "'image-folder' has both"),
        ({"image_folder": None, "fingerprint": None}, "'image-folder' has both"),
        ({"dataset": "cifar10"}, "others neither"),
        ({"dataset": "cifar10", "image_folder": None}, "others neither"),
        ({"architecture": "mlp", "width": 1.0, "hidden_sizes": (8,)}, "any size"),
        ({"architecture": "vgg11"}, "any size"),
        ({"n_networks": 2}, "n_networks=2"),
        ({"n_train": 4}, "n_train=4: .* must be None"),
        ({"evaluate_on": "validation"}, "evaluate_on='validation': .* must be 'test'"),
        ({"augment": True}, "augment=True: .* must be False"),
        ({"dataset": "imagenet"}, "'svhn' or 'image-folder'"),
    ],
)
def test_a_config_that_does_not_fit_a_folder_is_refused(changes, message, folder):
    with pytest.raises(ValidationError, match=message):
        config(folder, **changes)


@pytest.fixture
def own(tmp_path):
    """As `folder`, to be changed."""
    return images_under(tmp_path / "own", TREE)


def test_a_link_to_a_folder_that_it_is_in_is_named(own):
    (own / "train" / "loop").symlink_to(own / "train")
    with pytest.raises(DataError, match=r"train/loop is a link to a folder that it is in"):
        data.fingerprint(own)


def test_a_link_to_nothing_is_named(own):
    (own / "val" / "gone.png").symlink_to(own / "no.png")
    with pytest.raises(DataError, match=r"gone\.png cannot be read: No such file"):
        data.fingerprint(own)


def spoil(kind, path):
    """Put something else in the place of an image."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("no image")
    elif kind == "cut":
        Image.new("RGB", (64, 64), 7).save(path)
        path.write_bytes(path.read_bytes()[:-40])
    else:
        Image.new("L", {"long": (60_000, 1), "large": (15_000, 15_000)}[kind]).save(path)


@pytest.mark.parametrize("kind", ["pipe", "text", "cut", "long", "large"])
def test_what_is_no_image_is_named_at_once(kind, own):
    path = sorted((own / "val").rglob("*.png"))[0]
    spoil(kind, path)
    began = time.monotonic()
    with pytest.raises(DataError, match=f"{path.name} is not a readable image"):
        list(batches(own).evaluation())
    assert time.monotonic() - began < 10


def test_a_plan_names_the_folder_by_its_fingerprint_and_the_command_says_where(
    folder, tmp_path, capsys
):
    cells, store = tmp_path / "cells.jsonl", tmp_path / "store"
    plan.write([plan.Cell("07", fit, config(folder, epochs=1), False)], cells)
    command = ["compute", str(cells), "--store", str(store)]
    assert main(command) == 2
    assert "`compute` takes --image-folder" in capsys.readouterr().err
    assert main([*command, "--image-folder", str(tmp_path)]) == 2
    assert "must hold train/ and val/" in capsys.readouterr().err
    assert main([*command, "--image-folder", str(folder)]) == 0
    (record,) = Store(store).read("training.fit").values()
    assert record["key"] == cell_key(fit, config(folder, epochs=1))
    assert str(folder) not in json.dumps(record)
