import fcntl
import functools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import BaseModel

from reluprime import records
from reluprime.cli import main
from reluprime.config import study as named
from reluprime.instruments import precision
from reluprime.records import provenance, verify
from reluprime.records.keys import key_of
from reluprime.records.merge import merge
from reluprime.records.store import record_digest
from reluprime.records.taken import taken
from reluprime.records.verify import problems
from reluprime.report.studies import STUDIES
from reluprime.volume import estimate

HERE = Path(__file__).resolve().parent
NAME = "test_records.toy"


class ToyConfig(BaseModel, frozen=True):
    x: int
    precision: str = "fp32"


class Toy:
    """A study that counts its calls; `returns` and `fails` change what a call does."""

    def __init__(self):
        self.calls = []
        self.returns = lambda x: {"square": x * x}
        self.study_name, self.version = "test_records.toy", 1

    def __call__(self, config, device=None):
        assert isinstance(device, torch.device)
        self.calls.append(config.x)
        return self.returns(config.x)


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def store(tmp_path):
    return records.Store(tmp_path / "records")


def configs(*values):
    return [ToyConfig(x=x) for x in values]


def record(x, result=None):
    return {
        "key": records.cell_key(Toy(), ToyConfig(x=x)),
        "study": NAME,
        "version": 1,
        "config": {"x": x, "precision": "fp32"},
        "result": {"square": x * x} if result is None else result,
        "provenance": {},
    }


def sealed(x, result=None):
    return record(x, result) | {"digest": record_digest(record(x, result))}


def line(x):
    return json.dumps(sealed(x)) + "\n"


def squares(store):
    return {r["config"]["x"]: r["result"]["square"] for r in store.read(NAME).values()}


def write(store, text):
    store.path.mkdir(exist_ok=True)
    store.file(NAME).write_text(text)


# Keys


def test_key_of_a_fixed_cell_never_changes(toy):
    assert records.cell_key(toy, ToyConfig(x=1)) == "6e42b631f6c847b9"


def test_key_depends_on_study_version_and_config(toy):
    keys = {records.cell_key(toy, ToyConfig(x=1)), records.cell_key(toy, ToyConfig(x=2))}
    toy.version = 2
    keys.add(records.cell_key(toy, ToyConfig(x=1)))
    toy.study_name = "test_records.other"
    keys.add(records.cell_key(toy, ToyConfig(x=1)))
    assert len(keys) == 4


def test_key_ignores_the_order_of_fields(toy):
    class Reordered(BaseModel, frozen=True):
        precision: str = "fp32"
        x: int

    assert records.cell_key(toy, Reordered(x=1)) == records.cell_key(toy, ToyConfig(x=1))


def test_a_new_version_is_computed_again_and_the_old_one_stays(toy, store):
    records.sweep(toy, configs(1), store)
    toy.version = 2
    records.sweep(toy, configs(1), store)
    assert toy.calls == [1, 1]
    assert [r["version"] for r in store.read(NAME).values()] == [1, 2]


# The store


def test_round_trip(store):
    store.append(record(1))
    store.append(record(2))
    assert store.read(NAME) == {r["key"]: r for r in (sealed(1), sealed(2))}
    assert store.file(NAME).read_text() == line(1) + line(2)


def test_a_store_without_a_file_is_empty(store):
    assert store.read(NAME) == {}
    assert not store.path.exists()


def test_a_relative_path_starts_at_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert records.Store("records").path == HERE.parent / "records"
    assert records.Store(tmp_path).path == tmp_path


def test_non_finite_floats_survive(toy, store):
    toy.returns = lambda x: {"a": math.nan, "b": [math.inf, -math.inf], "c": 0.1}
    for _ in range(2):
        row = records.sweep(toy, configs(1), store).iloc[0]
        assert math.isnan(row.a)
        assert row.b == [math.inf, -math.inf]
        assert row.c == 0.1
    assert toy.calls == [1]


def test_the_latest_line_of_a_key_wins(store):
    for result in ({"square": 7}, {"square": 8}):
        store.append(record(1, result))
    assert squares(store) == {1: 8}


def test_a_whole_last_record_counts_without_the_end_of_its_line(store):
    write(store, line(1) + line(2)[:-1])
    assert squares(store) == {1: 1, 2: 4}
    store.append(record(3))
    assert store.file(NAME).read_text() == line(1) + line(2) + line(3)
    write(store, line(1) + json.dumps(record(2)))  # without a digest nothing says that it is whole
    with pytest.warns(UserWarning, match="line 2 is left out: torn"):
        assert squares(store) == {1: 1}


@pytest.mark.parametrize("cut", [2, 20, len(line(3)) - 1], ids=["brace", "some", "most"])
def test_a_torn_last_line_is_dropped_and_the_next_append_is_whole(store, cut):
    write(store, line(1) + line(2) + line(3)[:-cut])
    with pytest.warns(UserWarning, match=r"toy\.jsonl, line 3 is left out: torn") as caught:
        assert squares(store) == {1: 1, 2: 4}
    assert [warning.filename for warning in caught] == [__file__]
    store.append(record(4))
    assert store.file(NAME).read_text() == line(1) + line(2) + line(4)
    assert squares(store) == {1: 1, 2: 4, 4: 16}


def test_a_file_of_nothing_but_a_torn_line(store):
    write(store, line(1)[:9])
    with pytest.warns(UserWarning, match="line 1 is left out: torn"):
        assert store.read(NAME) == {}
    store.append(record(1))
    assert squares(store) == {1: 1}


@pytest.mark.parametrize(
    ("alien", "reason"),
    [
        ("<<<<<<< HEAD", "not JSON"),
        ("=======", "not JSON"),
        (">>>>>>> branch", "not JSON"),
        ("", "not JSON"),
        (line(3)[:30], "not JSON"),
        ("[1, 2]", "not a record"),
        ('{"key": "0123456789abcdef"}', "not a record"),
        (line(3).replace('"square": 9', '"square": 8').strip(), "digest does not match"),
        (line(3).replace('"provenance": {', '"provenance": {"threads": 2').strip(), "digest does"),
        (line(3).replace('"digest"', '"diges"').strip(), "it has ..diges"),
        (line(3).replace('"x": 3', '"x": 4').strip(), "key does not match"),
        (line(3).replace('"version": 1', '"version": 2').strip(), "key does not match"),
        (line(3).replace("toy", "joy").strip(), "key does not match"),
    ],
)
def test_an_alien_line_is_left_out_with_advice(store, alien, reason):
    text = line(1) + alien + "\n" + line(2)
    write(store, text)
    with pytest.warns(UserWarning, match=f"line 2 is left out: .*{reason}.*delete it.*restore"):
        assert squares(store) == {1: 1, 2: 4}
    assert store.file(NAME).read_text() == text
    store.append(record(5))
    assert store.file(NAME).read_text() == text + line(5)


def test_bytes_that_are_no_text_are_an_alien_line(store):
    write(store, "")
    store.file(NAME).write_bytes(b"\xff\xfe\x00\n" + line(1).encode())
    with pytest.warns(UserWarning, match="line 1 is left out: not JSON"):
        assert squares(store) == {1: 1}


def test_both_sides_of_a_merge_conflict_count(store):
    write(store, f"<<<<<<< HEAD\n{line(1)}=======\n{line(2)}>>>>>>> branch\n")
    with pytest.warns(UserWarning, match="not JSON") as caught:
        assert squares(store) == {1: 1, 2: 4}
    assert len(caught) == 3


def test_a_record_is_in_the_file_before_it_is_synced(store, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(store.file(NAME).read_text()))
    store.append(record(1))
    assert seen == [line(1)]


def test_what_is_not_json_leaves_the_file_alone(store):
    store.append(record(1))
    with pytest.raises(TypeError):
        store.append(record(2, {"square": np.float32(4)}))
    assert store.file(NAME).read_text() == line(1)


@contextmanager
def no_file_above(size):
    """As a full disk: what would make a file longer than `size` bytes is refused."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(("room", "what"), [(9, "only part of a record"), (0, "cannot write")])
def test_a_full_disk_is_an_error(store, room, what):
    write(store, line(1))
    with no_file_above(len(line(1)) + room), pytest.raises(records.RecordsError) as caught:
        store.append(record(2))
    for words in (what, f"{NAME}.jsonl", "free some disk space, and run it again"):
        assert words in str(caught.value)
    store.append(record(3))
    assert squares(store) == {1: 1, 3: 9}


# More than one process


STUDY = """
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from reluprime import records
from reluprime.cli import main
from reluprime.config import study as named

HERE = Path(__file__).parent


class Config(BaseModel, frozen=True):
    x: int
    precision: str = "fp32"


@named("child.study", version=1)
def study(config: Config, device=None):
    with open(HERE / "calls", "a") as file:
        file.write(f"{config.x} ")
    while config.x == 3 and (HERE / "hang").exists():
        time.sleep(0.01)
    return {"x2": 2 * config.x}


def sweep():
    store = records.Store(HERE)
    return records.sweep(study, [Config(x=x) for x in range(6)], store, device="cpu")


def append(first, count):
    (HERE / f"ready{first}").touch()
    while not (HERE / "go").exists():
        time.sleep(0.001)
    for x in range(first, first + count):
        config = Config(x=x)
        record = {
            "key": records.cell_key(study, config),
            "study": "child.study",
            "version": 1,
            "config": config.model_dump(),
            "result": {"long": "line " * 20_000},
            "provenance": {},
        }
        records.Store(HERE).append(record)
"""


@pytest.fixture
def other_process(tmp_path, monkeypatch):
    """Start a call of the module child.py in another process; it is killed in the end."""
    (tmp_path / "child.py").write_text(STUDY)
    path = os.pathsep.join([str(tmp_path), str(HERE.parent)])
    started = []

    def start(call):
        process = subprocess.Popen(
            [sys.executable, "-c", f"import child; child.{call}"],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "child", raising=False)
    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_after_a_kill_a_sweep_goes_on_where_it_stopped(tmp_path, other_process):
    hang, calls = tmp_path / "hang", tmp_path / "calls"
    hang.touch()
    process = other_process("sweep()")
    wait_until(lambda: calls.exists() and calls.read_text() == "0 1 2 3 ")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    hang.unlink()

    import child

    assert list(child.sweep().x2) == [0, 2, 4, 6, 8, 10]
    assert calls.read_text() == "0 1 2 3 3 4 5 "


def test_processes_share_a_sweep_and_compute_no_cell_twice(tmp_path, other_process):
    hang, calls = tmp_path / "hang", tmp_path / "calls"
    hang.touch()
    processes = [other_process("sweep()") for _ in range(3)]
    wait_until(lambda: calls.exists() and sorted(calls.read_text().split()) == [*"012345"])
    hang.unlink()
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert sorted(calls.read_text().split()) == [*"012345"]
    assert len((tmp_path / "child.study.jsonl").read_text().splitlines()) == 6


def test_two_processes_at_once_lose_no_line(tmp_path, other_process):
    processes = [other_process(f"append({first}, 60)") for first in (0, 60)]
    wait_until(lambda: all((tmp_path / f"ready{first}").exists() for first in (0, 60)))
    (tmp_path / "go").touch()
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    found = records.Store(tmp_path).read("child.study").values()  # a warning would be an error
    assert sorted(r["config"]["x"] for r in found) == list(range(120))


def test_append_waits_for_the_lock(store):
    write(store, line(1) + "half a line of another process")
    thread = threading.Thread(target=store.append, args=[record(2)])
    with open(store.file(NAME)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        assert store.file(NAME).read_text().endswith("another process")
    thread.join(timeout=60)
    assert squares(store) == {1: 1, 2: 4}


@pytest.mark.parametrize("again", [False, True], ids=["let go", "taken again"])
def test_a_cell_that_another_lets_go_of_in_the_meantime_is_taken_by_one(store, monkeypatch, again):
    """The file that was locked then is no more the one that others open."""
    flock, other, third = fcntl.flock, ExitStack(), ExitStack()
    other.enter_context(taken(store, "key"))

    def let_go_before(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        other.close()
        if again:
            assert third.enter_context(taken(store, "key"))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", let_go_before)
    with third, taken(store, "key") as own, taken(store, "key") as late:
        assert (own, late) == (not again, False)
    assert not list((store.path / ".taken").iterdir())


# A store that cannot be used


@contextmanager
def ordinary_user():
    """Root may write everywhere, so go without its rights."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only_store():
    """A store with cell 1 that others may read; not under tmp_path, which they may not enter."""
    with tempfile.TemporaryDirectory() as folder:
        store = records.Store(folder)
        store.append(record(1))
        store.file(NAME).chmod(0o444)
        Path(folder).chmod(0o555)
        yield store
        Path(folder).chmod(0o755)


def test_a_read_only_store_fails_before_anything_is_computed(toy, read_only_store):
    with ordinary_user(), pytest.raises(records.RecordsError) as caught:
        records.sweep(toy, configs(1, 2), read_only_store)
    assert toy.calls == []
    assert f"cannot write {read_only_store.file(NAME)}: Permission denied." in str(caught.value)
    assert "pass a Store(path) in another folder" in str(caught.value)


def test_a_read_only_store_can_be_read(toy, read_only_store):
    with ordinary_user():
        for compute in ("missing", "never"):
            assert list(records.sweep(toy, configs(1), read_only_store, compute).square) == [1]


def test_a_folder_that_cannot_be_made(toy, read_only_store):
    inner = records.Store(read_only_store.path / "inner")
    with ordinary_user(), pytest.raises(records.RecordsError, match=r"cannot write .*inner"):
        records.sweep(toy, configs(1), inner)
    assert toy.calls == []


def test_an_unreadable_store(toy, tmp_path):
    store = records.Store(tmp_path)
    store.append(record(1))
    tmp_path.chmod(0o000)
    try:
        with ordinary_user(), pytest.raises(records.RecordsError, match=f"cannot read {tmp_path}"):
            records.sweep(toy, configs(1), store, "never")
    finally:
        tmp_path.chmod(0o700)


def test_a_path_that_is_a_file(toy, tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(records.RecordsError, match=f"{path}.*pass a Store"):
        records.sweep(toy, configs(1), records.Store(path))
    with pytest.raises(records.RecordsError, match=f"cannot write {path}"):
        records.Store(path).check_writable(NAME)
    assert toy.calls == []


# Sweeps


def test_missing_cells_are_computed_and_the_rest_is_read(toy, store, capsys):
    records.sweep(toy, configs(2, 1), store)
    assert f"{NAME}: 100%" in capsys.readouterr().err
    frame = records.sweep(toy, configs(3, 2, 1), store)
    assert toy.calls == [2, 1, 3]
    assert list(frame.x) == [3, 2, 1]
    assert list(frame.square) == [9, 4, 1]
    assert frame.attrs == {"missing": 0, "study": NAME}


def test_without_work_there_is_no_bar(toy, store, capsys):
    store.append(record(1))
    records.sweep(toy, configs(1), store)
    assert capsys.readouterr() == ("", "")


def test_never_computes_nothing_and_says_what_is_missing(toy, store):
    store.append(record(2))
    message = rf"^2 of 3 cells of {NAME} are missing in {store.path}; .* compute='missing'"
    with pytest.warns(UserWarning, match=message) as caught:
        frame = records.sweep(toy, configs(1, 2, 3), store, compute="never")
    assert caught[0].filename == __file__
    assert toy.calls == []
    assert list(frame.x) == [2]
    assert frame.attrs == {"missing": 2, "study": NAME}


def test_always_computes_again_and_the_latest_counts(toy, store):
    records.sweep(toy, configs(1, 2), store)
    toy.returns = lambda x: {"square": -x}
    assert list(records.sweep(toy, configs(1, 2), store, compute="always").square) == [-1, -2]
    assert list(records.sweep(toy, configs(1, 2), store).square) == [-1, -2]
    assert toy.calls == [1, 2, 1, 2]
    assert len(store.file(NAME).read_text().splitlines()) == 4


@pytest.mark.parametrize("compute", ["all", "Missing", None, True])
def test_an_unknown_compute_names_the_choices(toy, store, compute):
    with pytest.raises(ValueError, match=f"{compute!r}.*'missing', 'never', 'always'"):
        records.sweep(toy, configs(1), store, compute=compute)


def test_a_config_given_twice(toy, store):
    with pytest.raises(ValueError, match=r"twice: ToyConfig\(x=1"):
        records.sweep(toy, configs(1, 2, 1), store)
    assert toy.calls == []


def test_max_seconds_starts_no_further_cell_and_keeps_what_is_done(toy, store, monkeypatch):
    clock = [100.0]

    def tick(x):
        clock[0] += 1
        return {"square": x * x}

    toy.returns = tick
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with pytest.warns(UserWarning, match="3 of 5 cells"):
        frame = records.sweep(toy, configs(1, 2, 3, 4, 5), store, max_seconds=1.5)
    assert list(frame.x) == [1, 2]
    records.sweep(toy, configs(1, 2, 3, 4, 5), store)
    assert toy.calls == [1, 2, 3, 4, 5]


def test_no_time_at_all(toy, store, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    with pytest.warns(UserWarning, match="1 of 1 cells"):
        records.sweep(toy, configs(1), store, max_seconds=0)
    assert toy.calls == []


def test_a_generator_of_configs(toy, store):
    assert len(records.sweep(toy, (config for config in configs(1, 2)), store)) == 2


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_a_study_keeps_the_finished_cells(toy, store, kind):
    def fail(x):
        if x == 2:
            raise kind("no luck")
        return {"square": x * x}

    toy.returns = fail
    with pytest.raises(kind, match="no luck") as caught:
        records.sweep(toy, configs(1, 2, 3), store)
    assert caught.value.__notes__ == [f"in {NAME}(ToyConfig(x=2, precision='fp32'))"]
    assert squares(store) == {1: 1}


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ({"a": torch.tensor(1.0)}, TypeError),
        ({"a": np.int64(1)}, TypeError),
        (3, AttributeError),
        ({"x": 1}, ValueError),
        ({"key": 1}, ValueError),
        ({"provenance": 1}, ValueError),
    ],
)
def test_a_wrong_result_names_the_study_and_is_not_stored(toy, store, result, kind):
    toy.returns = lambda x: result
    with pytest.raises(kind) as caught:
        records.sweep(toy, configs(1), store)
    assert caught.value.__notes__ == [f"in {NAME}(ToyConfig(x=1, precision='fp32'))"]
    assert store.read(NAME) == {}


def test_a_clash_of_names_says_which(toy, store):
    toy.returns = lambda x: {"x": x, "square": x * x}
    with pytest.raises(ValueError, match=r"columns already: \['x'\]"):
        records.sweep(toy, configs(1), store)


def test_the_device_is_passed_on(store):
    seen = []

    @named("test_records.study", version=1)
    def study(config: ToyConfig, device=None):
        seen.append(device)
        return {}

    records.sweep(study, configs(1), store)
    records.sweep(study, configs(2), store, device="cpu")
    assert seen == [precision.best_device(), torch.device("cpu")]


# The table


class WideConfig(BaseModel, frozen=True):
    widths: list[list[int]]
    s: tuple[float, ...] = (0.0, 1.0)
    seed: int = 0
    precision: str = "fp32"


COLUMNS = ["widths", "s", "seed", "precision", "z", "a", "key", "provenance"]


def test_columns_and_rows(toy, store):
    @named("test_records.wide", version=1)
    def wide(config: WideConfig, device=None):
        return {"z": config.seed / 2, "a": (1, 2)}

    grid = [WideConfig(widths=[[1], [2, 3]], seed=seed) for seed in (5, 4)]
    for _ in range(2):  # computed, then read
        frame = records.sweep(wide, grid, store)
        assert list(frame.columns) == COLUMNS
        assert list(frame.index) == [0, 1]
        row = frame.iloc[1]
        assert (row.widths, row.s, row.seed) == (((1,), (2, 3)), (0.0, 1.0), 4)
        assert (row.z, row.a) == (2.0, [1, 2])
        assert row.key == records.cell_key(wide, grid[1])
        assert row.provenance["precision"]["dtype"] == "float32"
        assert frame.seed.dtype == "int64"
        assert frame.groupby("widths").z.mean().tolist() == [2.25]


def test_results_with_different_fields(toy, store):
    toy.returns = lambda x: {"odd": 1} if x % 2 else {"even": 1}
    frame = records.sweep(toy, configs(1, 2), store)
    assert list(frame.columns) == ["x", "precision", "odd", "even", "key", "provenance"]


def test_an_empty_table_has_its_columns(toy, store):
    with pytest.warns(UserWarning, match="2 of 2"):
        frame = records.sweep(toy, configs(1, 2), store, compute="never")
    assert list(frame.columns) == ["x", "precision", "key", "provenance"]
    assert len(frame) == 0
    assert list(records.sweep(toy, [], store).columns) == ["key", "provenance"]


# Provenance


def test_provenance(toy, store):
    before = time.time()
    toy.returns = lambda x: time.sleep(0.05) or {}
    found = records.sweep(toy, configs(1), store, device="cpu").provenance[0]
    assert list(found) == [
        "reluprime", "commit", "python", "torch", "torchvision", "numpy", "cuda", "device",
        "device_name", "cpu_capability", "threads", "precision", "wall_seconds", "utc",
    ]  # fmt: skip
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert found["device"] == "cpu"
    assert found["device_name"]
    assert found["threads"] == torch.get_num_threads()
    assert found["precision"] == precision.describe("fp32", torch.device("cpu"))
    assert 0.05 <= found["wall_seconds"] < 10
    assert found["wall_seconds"] == round(found["wall_seconds"], 3)
    assert len(found["utc"]) == len("2026-01-01T00:00:00+00:00")
    utc = datetime.fromisoformat(found["utc"]).timestamp()
    assert int(before) <= utc <= time.time()


def test_provenance_says_whether_a_gpu_rounded_partial_sums(monkeypatch):
    monkeypatch.setattr(provenance, "_device_name", lambda device: "a GPU")

    class Reduced(ToyConfig):
        reduced_precision: bool

    def found(config):
        own = provenance.describe(config, torch.device("cuda"), 1.0)
        return own["precision"]["reduced_precision_reduction"]

    fp16 = {"x": 1, "precision": "fp16"}
    assert found(Reduced(**fp16, reduced_precision=True)) is True
    assert found(Reduced(**fp16, reduced_precision=False)) is False
    assert found(ToyConfig(**fp16)) is False


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit(tmp_path, monkeypatch):
    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
        command = ["git", *name, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout

    commit = provenance._commit.__wrapped__  # without its cache
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    assert commit() == "unknown"
    git("init", "--quiet")
    assert commit() == "unknown"
    module = tmp_path / "reluprime" / "module.py"
    module.parent.mkdir()
    module.write_text("a = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    head = git("rev-parse", "--short", "HEAD").decode().strip()
    (tmp_path / "notes.md").touch()  # not the package
    assert commit() == head
    module.write_text("a = 2\n")
    assert commit() == f"{head}-dirty"
    git("checkout", "--quiet", "reluprime")
    (module.parent / "new.py").touch()
    assert commit() == f"{head}-dirty"
    monkeypatch.setattr(provenance, "REPOSITORY", module.parent)  # a folder inside a clone
    assert commit() == "unknown"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_of_an_archive(tmp_path, monkeypatch):
    repository = records.REPOSITORY
    if not (repository / ".git").exists():
        pytest.skip("not a clone")
    git = functools.partial(subprocess.run, cwd=repository, check=True, capture_output=True)
    archive = git(["git", "archive", "HEAD", ".gitattributes", "reluprime"]).stdout
    subprocess.run(["tar", "x"], cwd=tmp_path, input=archive, check=True)
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    head = git(["git", "rev-parse", "--short", "HEAD"]).stdout.decode().strip()
    assert provenance._commit.__wrapped__() == head
    shutil.copy(repository / "reluprime" / "COMMIT", tmp_path / "reluprime")
    assert provenance._commit.__wrapped__() == "unknown"


def test_commit_without_git(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert provenance._commit.__wrapped__() == "unknown"


def test_commit_is_asked_once():
    provenance._commit()
    misses = provenance._commit.cache_info().misses
    provenance._commit()
    assert provenance._commit.cache_info().misses == misses


def test_what_the_device_lacks_is_refused_before_anything_is_computed(toy, store):
    grid = [ToyConfig(x=1), ToyConfig(x=2, precision="tf32")]
    with pytest.raises(ValueError, match="precision='tf32' needs an NVIDIA GPU") as caught:
        records.sweep(toy, grid, store, device="cpu")
    assert toy.calls == []
    assert "x=2" in caught.value.__notes__[0]


# ---- a cell on two devices ----


def made_on(device, x, square, day=1):
    """A record as a device would write it, on a day of a past month."""
    how = {"device": device, "device_name": f"a {device}"}
    how |= {"utc": f"2026-01-{day:02d}T10:00:00+00:00"}
    key = records.cell_key(Toy(), ToyConfig(x=x), device)
    return record(x, {"square": square}) | {"key": key, "provenance": how}


def on_gpu(x, square):
    return made_on("cuda", x, square)


def test_a_gpus_record_has_a_key_of_its_own(store):
    assert on_gpu(3, 9)["key"] != record(3)["key"]
    write(store, json.dumps(on_gpu(3, 9)) + "\n" + line(3))
    assert len(store.read(NAME)) == 2
    claimed = on_gpu(3, 9) | {"provenance": {"device": "cpu"}}
    write(store, json.dumps(claimed) + "\n")
    with pytest.warns(UserWarning, match="device"):
        assert store.read(NAME) == {}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("older", "newer"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_of_two_devices_the_newer_record_counts(toy, store, older, newer, turned):
    """In whatever order a merge has put their lines."""
    found = [made_on(older, 3, 70, day=1), made_on(newer, 3, 90, day=2)]
    lines = [json.dumps(one) + "\n" for one in found]
    write(store, "".join(reversed(lines) if turned else lines))
    frame = records.sweep(toy, configs(3), store)
    assert toy.calls == []
    assert list(frame.square) == [90]
    assert list(records.table(toy, store).square) == [90]


@pytest.mark.parametrize("most", ["cpu", "cuda"])
def test_what_is_compared_comes_from_one_machine(toy, store, most):
    """A figure whose points were of two machines had a bump that neither of them has."""
    (other,) = {"cpu", "cuda"} - {most}
    found = [made_on(most, x, x) for x in (1, 2, 3)] + [made_on(other, x, 50, 2) for x in (2, 4)]
    write(store, "".join(json.dumps(one) + "\n" for one in found))
    frame = records.sweep(toy, configs(1, 2, 3, 4), store)
    assert list(frame.square) == [1, 2, 3, 50]  # the last from where it is
    assert toy.calls == []
    assert list(records.sweep(toy, configs(2, 4), store).square) == [50, 50]


@pytest.mark.parametrize("compute", ["missing", "never"])
def test_always_computes_anew_beside_the_gpus_record_and_is_read_next(toy, store, compute):
    write(store, json.dumps(on_gpu(3, 90)) + "\n")
    frame = records.sweep(toy, configs(3), store, compute="always", device="cpu")
    assert toy.calls == [3]
    assert list(frame.square) == [9]  # what was just computed
    assert len(store.read(NAME)) == 2
    assert list(records.sweep(toy, configs(3), store, compute).square) == [9]
    assert list(records.table(toy, store).square) == [9]
    assert toy.calls == [3]


def test_always_shows_the_second_time_what_it_computed_the_second_time(toy, store):
    """As a page does that sweeps for everything and then reads part by part."""
    write(store, json.dumps(made_on("cpu", 3, 70)) + "\n" + json.dumps(on_gpu(3, 90)) + "\n")
    for square in (9, 10):
        toy.returns = lambda x, square=square: {"square": square}
        records.sweep(toy, configs(3), store, compute="always", device="cpu")
        assert list(records.sweep(toy, configs(3), store, "never").square) == [square]


# ---- digests, merging, verifying ----


def test_a_line_from_before_digests_is_read(store):
    write(store, json.dumps(record(3)) + "\n")
    assert squares(store) == {3: 9}


def test_of_two_lines_with_a_key_the_newer_record_counts_in_whatever_order(store):
    lines = [json.dumps(made_on("cpu", 3, square, day)) + "\n" for day, square in ((2, 90), (1, 7))]
    for ordered in (lines, lines[::-1]):
        write(store, "".join(ordered))
        assert squares(store) == {3: 90}


def test_a_store_is_brought_back_from_another_machine(store, tmp_path):
    away = records.Store(tmp_path / "away")
    store.append(made_on("cpu", 1, 1))
    store.append(made_on("cpu", 2, 4, day=3))
    store.append(made_on("cpu", 5, 25, day=1))
    away.append(made_on("cpu", 1, 1, day=2))  # made again, with the same bits
    away.append(made_on("cpu", 2, 40, day=2))  # another result, and an older one
    away.append(made_on("cpu", 5, 26, day=2))  # and a newer one
    away.append(made_on("cuda", 1, 1))  # a key of its own
    with away.file(NAME).open("a") as file:
        file.write("no record\n" + line(6)[:30])
    with pytest.warns(UserWarning, match="left out") as caught:
        found = merge(away, store)
    assert [str(w.message).split(" is left out: ")[1][:4] for w in caught] == ["not ", "torn"]
    names = {kind: [(r["config"]["x"], r["provenance"]["device"]) for r in found[kind]]
             for kind in found}  # fmt: skip
    assert names == {
        "new": [(1, "cuda")],
        "same": [(1, "cpu")],
        "different": [(2, "cpu"), (5, "cpu")],
    }
    assert sorted((x, r["result"]["square"]) for r in store.read(NAME).values()
                  for x in [r["config"]["x"]]) == [(1, 1), (1, 1), (2, 4), (5, 26)]  # fmt: skip
    text = store.file(NAME).read_text()
    with pytest.warns(UserWarning, match="left out"):
        again = merge(away, store)
    assert {kind: len(found) for kind, found in again.items()} == {
        "new": 0,
        "same": 4,
        "different": 0,
    }
    assert store.file(NAME).read_text() == text


def test_the_command_merges_and_verifies(tmp_path, capsys):
    small = {"dataset": "mnist-5k", "hidden_sizes": (4,), "max_batches": 1, "n_networks": 1}
    grid = [records.config_class(estimate)(**small)]
    away = records.Store(tmp_path / "away")
    records.sweep(estimate, grid, away, device="cpu")
    folders = [str(away.path), "--store", str(tmp_path / "here")]
    for said in ("1 new, 0 same, 0 different\n", "0 new, 1 same, 0 different\n"):
        assert main(["merge", *folders]) == 0
        assert capsys.readouterr().out == said
    assert main(["verify", "--store", str(tmp_path / "here")]) == 0
    assert "the 1 records" in capsys.readouterr().out
    assert main(["merge", str(tmp_path / "nowhere")]) == 2
    assert "there are no records in" in capsys.readouterr().err
    file = tmp_path / "here" / "volume.estimate.jsonl"
    file.write_text(file.read_text().replace('"n_networks": 1', '"n_networks": 2'))
    assert main(["verify", "--store", str(tmp_path / "here")]) == 1
    assert "line 1: its key does not match" in capsys.readouterr().out


def test_a_store_is_verified_line_by_line(store):
    @named(NAME, version=1)
    def toy(config: ToyConfig, device=None):
        return {}

    unknown = record(1) | {"config": {"y": 1, "precision": "fp32"}}
    unknown["key"] = key_of(NAME, 1, unknown["config"], "cpu")
    flipped = line(3).replace('"square": 9', '"square": 8')
    bare = json.dumps(record(5)) + "\n"
    lines = line(1) + flipped + line(2) + line(1) + json.dumps(unknown) + "\n" + bare
    write(store, lines + line(4)[:9])
    store.file("test_records.other").write_text(line(1))
    found = problems(store, {NAME: toy})
    expected = [
        "there is no study test_records.other",
        "line 2: its digest does not match its result and provenance; delete it",
        "line 4: the same record as in line 1",
        "line 5: its study does not take its config",
        "line 6: it has no digest",
        "line 7: torn, as by a kill",
    ]
    assert len(found) == len(expected)
    assert all(what in one for what, one in zip(expected, found, strict=True))
    assert "is a record of" in problems(store, {NAME: toy, "test_records.other": toy})[0]


def test_merging_gives_a_digest_to_lines_without_one_and_changes_no_other(store, tmp_path):
    write(store, line(1) + "no record\n" + json.dumps(record(2)) + "\n" + line(3)[:9])
    store.file(NAME).chmod(0o644)
    merge(records.Store(tmp_path / "nothing"), store)
    with pytest.warns(UserWarning, match="left out"):
        merge(store, store)
    assert store.file(NAME).read_text() == line(1) + "no record\n" + line(2) + line(3)[:9]
    assert [path.name for path in store.path.iterdir()] == [f"{NAME}.jsonl"]


def test_merging_counts_lines_as_reading_does(store):
    write(store, "")
    spoilt = b"a\rb\x0b\xe2\x80\xa8c\r\n"  # one line to us, and several to `splitlines`
    bare = json.dumps(record(3)).encode() + b"\n"
    store.file(NAME).write_bytes(spoilt + line(1).encode() + bare + line(2).encode())
    with pytest.warns(UserWarning, match="line 1 is left out"):
        merge(store, store)
    assert store.file(NAME).read_bytes() == spoilt + (line(1) + line(3) + line(2)).encode()


def test_merging_on_a_full_disk_leaves_the_file_alone(store):
    text = line(1) + json.dumps(record(2)) + "\n"
    write(store, text)
    with (
        no_file_above(len(text)),
        pytest.raises(records.RecordsError, match=rf"{NAME}\.jsonl: .*disk space.* merge again"),
    ):
        merge(store, store)
    assert store.file(NAME).read_text() == text
    assert [path.name for path in store.path.iterdir()] == [f"{NAME}.jsonl"]


def test_what_is_appended_goes_to_the_file_that_merging_put_there(store, monkeypatch):
    write(store, json.dumps(record(1)) + "\n")
    flock, seen = fcntl.flock, []

    def merged_in_the_meantime(file, how):
        if not seen:
            seen.append(file)
            merge(store, store)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", merged_in_the_meantime)
    store.append(record(2))
    assert store.file(NAME).read_text() == line(1) + line(2)


def test_a_merge_loses_nothing_that_is_appended_after_another_merge(store, monkeypatch):
    write(store, json.dumps(record(1)) + "\n")
    flock, seen = fcntl.flock, []

    def merged_and_appended_in_the_meantime(file, how):
        if not seen:
            seen.append(file)
            merge(store, store)
            store.append(record(2))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", merged_and_appended_in_the_meantime)
    merge(store, store)
    assert store.file(NAME).read_text() == line(1) + line(2)


def test_nothing_is_wrong_with_the_committed_records():
    assert problems(records.Store("records"), STUDIES) == []


def test_new_records_come_from_clean_commits():
    """Those that do not are older than the sentence about them in book/rerun.md."""
    made = [
        json.loads(line)["provenance"]
        for file in records.Store("records").path.glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    uncommitted = [how for how in made if how["commit"].endswith(provenance.UNCOMMITTED)]
    assert max(how["utc"] for how in uncommitted) < "2026-11-26T16"
    same = ("device_name", "threads", "torch", "torchvision", "numpy", "python")
    assert len({tuple(how[name] for name in same) for how in uncommitted}) == 1


def test_cells_are_computed_again_and_their_bits_compared(tmp_path, capsys):
    small = {"dataset": "mnist-5k", "hidden_sizes": (4,), "max_batches": 1, "n_networks": 1}
    grid = [records.config_class(estimate)(**small, seed=seed) for seed in (0, 1)]
    store = records.Store(tmp_path)
    records.sweep(estimate, grid, store, device="cpu")
    again = ["verify", "--recompute", "9", "--store", str(tmp_path)]
    assert main(again) == 0
    assert capsys.readouterr().out.count("the same bits") == 2
    first, second = store.read("volume.estimate").values()
    elsewhere = second["provenance"] | {"threads": 99, "utc": "2999-01-01T00:00:00+00:00"}
    store.append(second | {"provenance": elsewhere})  # whose bits may be others
    spoilt = first["result"] | {"relu_calls": first["result"]["relu_calls"] + 1}
    later = first["provenance"] | {"utc": "2999-01-01T00:00:00+00:00"}
    store.append(first | {"result": spoilt, "provenance": later})
    assert main(again) == 1
    said = capsys.readouterr().out
    assert "the same bits" not in said
    assert said.count("other bits than the record has") == 1


@pytest.mark.parametrize("name", ["speed.measure", "trust.campaign"])
def test_times_are_not_measured_again(name, monkeypatch):
    """Two are never the same, and the campaign takes half an hour."""
    monkeypatch.setattr(verify, "_same_bits_expected", lambda *_: True)
    monkeypatch.setattr(verify, "measure", lambda *_: pytest.fail("it was measured"))
    committed = records.Store("records")
    assert committed.read(name)
    assert list(verify.recomputed(committed, {name: STUDIES[name]}, 9)) == []


# ---- where rows come from ----


def test_origin_names_study_number_keys_and_dates():
    rows = [
        {"key": f"{n:016x}", "provenance": PROVENANCE | {"utc": f"2026-11-{n:02d}T10:00:00+00:00"}}
        for n in (3, 1)
    ]
    frame = pd.DataFrame(rows)
    frame.attrs["study"] = NAME
    found = records.origin(frame)
    assert found["study"] == NAME
    assert found["records"] == "2"
    assert found["date"] == "2026-11-01 to 2026-11-03"
    assert found["time"] == "1.00 hours"
    assert found["keys"].split() == [row["key"] for row in rows]
    assert "torch 2.14" in found["versions"]


PROVENANCE = {
    "device_name": "a processor",
    "torch": "2.14",
    "torchvision": "0.29",
    "numpy": "2",
    "python": "3.11",
    "reluprime": "0.1",
    "commit": "abc",
    "wall_seconds": 1800,
}
