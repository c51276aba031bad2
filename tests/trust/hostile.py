"""Hostile records files, wrong parameters, and files that are no plans."""

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import time
import warnings
from typing import get_args

from kills import CELLS, once
from tries import changed, children_seconds, quiet, stored, timeless, written

from reluprime import records
from reluprime.cli import main
from reluprime.records.merge import merge
from reluprime.records.store import REPOSITORY, record_digest
from reluprime.records.verify import problems
from reluprime.report import pages, plan, scorecard
from reluprime.report.studies import STUDIES
from reluprime.volume.study import estimate

COMMITTED = records.Store("records")


def _line(record: dict) -> bytes:
    """As `append` writes it."""
    return json.dumps(record | {"digest": record_digest(record)}).encode() + b"\n"


def _edited(line: bytes, random_) -> bytes:
    """A line with a digit changed, bytes lost, added or swapped, or another value."""
    text = bytearray(line)
    place = random_.randrange(len(text) - 1)
    kind = random_.randrange(8)
    if kind == 0:
        digits = [i for i, c in enumerate(text) if chr(c).isdigit()]
        place = random_.choice(digits)
        text[place] = ord("1") if text[place] == ord("9") else text[place] + 1
    elif kind == 1:
        text[place] ^= 1 << random_.randrange(8)
    elif kind == 2:
        del text[place : min(place + random_.randint(1, 200), len(text) - 1)]  # its end stays
    elif kind == 3:
        text[place:place] = random_.randbytes(random_.randint(1, 50)).replace(b"\n", b" ")
    elif kind == 4:
        return b"[" * random_.randint(1, 10**5) + b"\n"
    elif kind == 5:
        record = json.loads(line)
        record[random_.choice(["result", "provenance", "config", "key"])] = random_.choice(
            [None, [], "", {}, -1, "\ud800", {"a": "\ud800"}]
        )
        return json.dumps(record).encode() + b"\n"
    elif kind == 6:
        return random_.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\0" * 99]) + line
    else:
        return line.replace(b", ", b"\n", 1)
    return bytes(text)


def _odd_file(path, random_, folder) -> None:
    """Something else in the place of a file."""
    kind = random_.randrange(4)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(folder / "nothing")
    elif kind == 2:
        os.mkfifo(path)
    else:
        path.symlink_to(path)


def hostile_records(tally, seed, tries, folder):
    """Spoilt lines are left out with file and line, all others count, and verdicts are given."""
    random_ = random.Random(seed)
    lines = {
        name: [_line(record) for record in COMMITTED.read(name).values()][:40]
        for name in COMMITTED.studies()
    }
    for number in range(tries):
        name = random_.choice(sorted(lines))
        store = records.Store(folder / f"{number}")
        store.path.mkdir()
        if random_.random() < 0.05:
            _odd_file(store.file(name), random_, folder)
            said, seconds = quiet(lambda n=name, s=store: s.read(n))
            if said:
                tally.refusal(said, (name,), seconds, "odd file")
            else:
                tally.count("harmless")
            continue
        own = random_.sample(lines[name], min(5, len(lines[name])))
        spoilt = random_.sample(range(len(own)), random_.randint(1, len(own)))
        text = [_edited(line, random_) if n in spoilt else line for n, line in enumerate(own)]
        store.file(name).write_bytes(b"".join(text))
        _judge_records(tally, store, name, own, spoilt, number)


def _judge_records(tally, store, name, own, spoilt, number):
    true = {timeless(json.loads(line)) for line in own}
    kept = {timeless(json.loads(line)) for n, line in enumerate(own) if n not in spoilt}
    said, seconds = quiet(lambda: store.read(name))
    found = {result for results in stored(store, name).values() for result in results}
    if number % 20 == 0:
        judged, _ = quiet(lambda: scorecard.all_judged(store))
        planned, _ = quiet(lambda: plan.cost([], store, 1.0))
        said += "".join(f"\n{word}" for word in (judged, planned) if "Traceback" in word)
    verified, _ = quiet(lambda: problems(store, STUDIES))
    merged = _merged(store.file(name), own[0], store)
    if found - true:
        tally.count("silent", f"{name}: an edited result is read")
    elif kept - found and not any(b"\n" in line[:-1] for line in own):
        tally.count("lost", f"{name}: a good line is not read: {said}")
    elif "Traceback" in said + verified:
        tally.count("unnamed", said + verified)
    elif merged:
        tally.count("lost", f"{name}: merging {merged}")
    elif found == true:
        tally.count("harmless")
    else:
        tally.refusal(said, (f"{name}.jsonl, line",), seconds, "records")


def _merged(file, line, store) -> str:
    """What merging does to a file but to give a record from before digests its own, "" if naught.

    It is the good `line`, without its digest, at the end.
    """
    before, bare = file.read_bytes(), json.loads(line)
    del bare["digest"]
    file.write_bytes(before + json.dumps(bare).encode() + b"\n")
    said, _ = quiet(merge, store, store)
    return said if "Traceback" in said else "changes lines" * (file.read_bytes() != before + line)


# Values of the wrong kind or far out of range, by the kind of a parameter's usual value.
WRONG = {
    int: (-1, 10**18, 2.5, "x", None, [1], {}, "1e3", -(10**30), [], float("nan")),
    float: (-1.0, 1e308, "x", None, [1.0], {}, float("nan"), float("inf"), "0.5"),
    str: (3, None, [], {}, 2.5, ["mnist"], True),
    bool: (3, "yes", None, [], 1.5),
    list: ("x", 3, None, {}, [None], [{}], [[]], {"a": 1}, [object], ["nope"], [True, None]),
    dict: ("x", 3, None, [], {"half": 1}, {"fp32": -1}, {"fp32": "x"}, {"fp32": 10**18}, {1: 1}),
}
FREE = {"store", "registered_store", "image_folder", "planned"}  # texts that name places


def _wrong_values():
    for page, kind in pages.PAGES.items():
        for name, field in kind.model_fields.items():
            usual = kind().model_dump()[name]
            for value in WRONG[type(usual)]:
                if not (value is None and type(None) in get_args(field.annotation)):
                    yield page, name, value
            if isinstance(usual, list) and usual and "hidden_sizes" not in name:
                yield page, name, [*usual, usual[0]]
            yield page, f"{name}s_", usual


def wrong_parameters(tally, seed, tries, folder):
    """In one process: each is refused by its name, before anything is computed."""
    wrong = [*_wrong_values()]
    random.Random(seed).shuffle(wrong)
    for page, name, value in wrong[:tries]:
        said, seconds = quiet(lambda p=page, n=name, v=value: pages.checked(p, {n: v}).grids())
        if said:
            tally.refusal(said, (name,), seconds, f"{page} {name}={value!r}")
        else:
            tally.count("silent", f"{page} takes {name}={value!r}"[:200])


def wrong_commands(tally, seed, tries, folder):
    """By the real command, in a process each."""
    random_ = random.Random(seed)
    wrong = [w for w in _wrong_values() if "object" not in repr(w[2])]
    options = [
        (["compute", "P99"], "P99"),
        (["compute", "P1", "--workers", "0"], "--workers"),
        (["compute", "P1", "--max-seconds", "nan"], "--max-seconds"),
        (["compute", "P1", "--store", "/dev/null"], "/dev/null"),
        (["plan", "quick", "--tflops", "0"], "--tflops"),
        (["plan", "slow"], "slow"),
        (["merge", "no/such"], "no/such"),
        (["verify", "--recompute", "-1"], "--recompute"),
        (["bench", "speed", "--only", "x"], "no task x"),
        (["data", "imagenet"], "imagenet"),
        (["run", "out", "--page", "99"], "99"),
        (["plan", "-p", "n_networks", "[1"], "n_networks"),
        (["check", "torchvision:nope"], "nope"),
        (["check", "no.module:f"], "no"),
        (["check", "torchvision:resnet18", "--shape", "3,x"], "--shape"),
        (["check", "torchvision:resnet18", "--batches", "0"], "--batches"),
    ]
    home = folder / "home"
    home.mkdir()
    how = {"cwd": REPOSITORY, "capture_output": True, "text": True, "timeout": 300}
    how["env"] = os.environ | {"HOME": str(home), "TMPDIR": str(home)}
    own = [sys.executable, "-m", "reluprime"]
    subprocess.run([*own, "compute", "P99"], **how)  # leaves the caches of libraries there
    for number in range(tries):
        if number < len(options):
            words, culprit = options[number]
        else:
            page, name, value = random_.choice(wrong)
            yaml = json.dumps(value).replace("NaN", ".nan").replace("Infinity", ".inf")
            words = ["run", str(folder / "out"), "--page", page, "-p", name, yaml]
            culprit = name
        before, began = written(folder), children_seconds()
        done = subprocess.run([*own, *words], **how)
        seconds = children_seconds() - began
        paths = changed(before, written(folder))
        if done.returncode == 0:
            tally.count("silent", f"{words} was taken")
        elif paths:
            tally.count("outside", f"{words} wrote {paths}")
        else:
            tally.refusal(done.stderr, (culprit,), seconds, str(words))


def wrong_plans(tally, seed, tries, folder):
    """Files for `compute` that are spoilt: refused with file and line, before computing."""
    random_ = random.Random(seed)
    once(estimate, CELLS, folder)
    cells = [plan.Cell("02", estimate, config, False) for config in CELLS]
    good = folder / "good.jsonl"
    plan.write(cells, good)
    for number in range(tries):
        path = folder / f"{number}.jsonl"
        lines = good.read_bytes().splitlines(keepends=True)
        place = random_.randrange(len(lines))
        spoilt = json.loads(lines[place])
        kind = random_.randrange(8)
        if kind < 4:
            change = [
                {"version": 99},
                {"study": "no.such"},
                {"config": {"precision": "fp8"}},
                {"config": spoilt["config"] | {"n_networks": -1}},
            ][kind]
            lines[place] = json.dumps(spoilt | change).encode() + b"\n"
        elif kind == 4:
            lines[place] = json.dumps({"study": "volume.estimate"}).encode() + b"\n"
        elif kind == 5:
            lines[place] = b"[" * 10**5 + b"\n"
        elif kind == 6:
            lines[place] = random_.randbytes(40).replace(b"\n", b"") + b"\n"
        else:
            lines[place] = random_.choice([b"null\n", b"[]\n", b"\n", b"<<<<<<< HEAD\n"])
        path.write_bytes(b"".join(lines))
        store = folder / f"store{number}"
        said, began = io.StringIO(), time.process_time()
        with contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                status = main(["compute", str(path), "--store", str(store)])
            except BaseException as error:
                status = said.write(f"Traceback: {error!r}")
        if not status or store.exists():
            tally.count("silent", f"{lines[place][:80]!r} was computed")
        else:
            seconds = time.process_time() - began
            tally.refusal(said.getvalue(), (path.name,), seconds, f"{lines[place][:80]!r}")
