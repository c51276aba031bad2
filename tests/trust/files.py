"""Wrong data files, folders of images that are none, and pickles that would run code."""

import os
import pickle
import random
import zlib

import torch
from PIL import Image
from tries import quiet

from reluprime.check import inputs
from reluprime.instruments import cifar10, data
from reluprime.instruments.batches import FolderBatches
from reluprime.training import study as training
from reluprime.training.checkpoint import Checkpoint
from reluprime.training.study import TrainingConfig, fit

CPU = torch.device("cpu")


def wrong_data(tally, seed, tries, folder):
    """Files of sets that are missing, cut, of another set, folders, links or pipes."""
    random_ = random.Random(seed)
    for number in range(tries):
        root, name = folder / f"{number}", random_.choice(data.NAMES[1:])
        paths = [*data._expected_files(name, root)]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        path = paths[0]
        kind = random_.randrange(6)
        if kind == 0:
            path.write_bytes(random_.randbytes(random_.randint(0, 9999)))
        elif kind == 1:
            path.mkdir()
        elif kind == 2:
            path.symlink_to(path)
        elif kind == 3:
            os.mkfifo(path)
        elif kind == 4:
            path.write_bytes(zlib.compress(bytes(10**8)))
        said, seconds = quiet(data.load, name, root)
        tally.refusal(said, (path.name,), seconds, f"{name}, kind {kind}")


def _bomb(path):
    """A PNG whose header says 60,000 by 6,000 pixels."""
    Image.new("1", (60_000, 6_000)).save(path)


def _spoil(kind, path, root):
    if kind not in ("class", "loop", "empty"):
        path.unlink()
    if kind == "text":
        path.write_text("no image")
    elif kind == "cut":
        Image.new("RGB", (64, 64), 7).save(path)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "long":
        Image.new("L", (60_000, 1)).save(path)
    elif kind == "bomb":
        _bomb(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to(root / "nothing")
    elif kind == "self":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        (path.parent / "loop").symlink_to(root)
    elif kind == "class":
        (root / "train" / "horse").mkdir()
        Image.new("RGB", (8, 8)).save(root / "train" / "horse" / "0.png")
    elif kind == "empty":
        (root / "train" / "mouse").mkdir()


KINDS = ("text", "cut", "long", "bomb", "pipe", "dangling", "self", "folder", "loop", "class",
         "empty")  # fmt: skip
CULPRIT = {"class": "horse", "empty": "mouse", "loop": "loop", "folder": "dog"}


def wrong_images(tally, seed, tries, folder):
    """A folder in which one image is none, or that is laid out wrong."""
    for number in range(tries):
        root, kind = folder / f"{number}", KINDS[(seed + number) % len(KINDS)]
        for split in ("train", "val"):
            for name in ("cat", "dog"):
                (root / split / name).mkdir(parents=True)
                for n in range(1 if name == "dog" else 2):
                    Image.new("RGB", (40, 30), n).save(root / split / name / f"{n}.png")
        path = root / "val" / "dog" / "0.png"
        _spoil(kind, path, root)

        def read(root=root):
            data.fingerprint(root)
            common = {"seed": 0, "batch_size": 2, "device": CPU, "workers": 0}
            batches = FolderBatches(root, torch.float32, **common)
            return [*batches.train(0), *batches.evaluation()]

        said, seconds = quiet(read)
        tally.refusal(said, (path.name, CULPRIT.get(kind, path.name)), seconds, kind)


class Hostile:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def hostile_pickles(tally, seed, tries, folder):
    """In the place of CIFAR-10's files, of checkpoints and of weights: none is run."""
    training.SAVE_SECONDS = 0.0
    config = TrainingConfig(dataset="mnist-5k", hidden_sizes=(4,), n_train=200, epochs=1)
    (folder / "checkpoints").mkdir()
    for number in range(tries):
        mark, path = folder / f"run{number}", folder / f"{number}.pickle"
        content = [Hostile(mark), {"data": Hostile(mark)}, {"data": [], "labels": Hostile(mark)}]
        pickled = pickle.dumps(content[number % 3], protocol=2 + number % 4)
        kind = number % 3
        if kind == 0:
            path.write_bytes(pickled)
            said, seconds = quiet(cifar10.read, [path])
        elif kind == 1:
            state = Checkpoint(config, fit.version, CPU).state
            state.write(pickled)
            path = state.path
            said, seconds = quiet(fit, config, CPU)[0], 0  # it goes on: its time says nothing
        else:
            path.write_bytes(pickled)
            said, seconds = quiet(inputs.load, torch.nn.Linear(1, 1), path)
        if mark.exists():
            tally.count("silent", f"a pickle of kind {kind} was run")
        else:
            tally.refusal(said, (path.name,), seconds, f"kind {kind}")
