"""The commands that compute: compute, run, bench, data."""

import argparse
import math
import sys
from pathlib import Path

from reluprime.cli.options import (
    MINE,
    add_parameters,
    add_store,
    at_least_one,
    filled_store,
    parameters,
    seconds,
)


def add_commands(commands) -> None:
    """Add the commands to the subparsers of an ArgumentParser."""
    parser = commands.add_parser("compute", help="compute the cells of a plan or of claims")
    parser.add_argument("what", nargs="+", help=
        "files that `plan --out` wrote, ids (P1 ... A1), orders: which networks meet a zero at "
        "fp32 by the order of sums, 1.5 hours on a core, or separate: a seed of P14 in that "
        "arithmetic, ten minutes. What the store has from a CPU alone is computed again on a GPU: "
        "a rule reads the records of one machine"
    )  # fmt: skip
    parser.add_argument("--arithmetic", help="of claims' grids, this one alone")
    parser.add_argument("--max-seconds", type=seconds, default=math.inf, help="start no cell later")
    parser.add_argument(
        "--workers", type=at_least_one, default=1, help="processes that share the work (1)"
    )
    parser.add_argument("--image-folder", help="where the cells of an image folder find it")
    add_store(parser, MINE)
    parser.set_defaults(run=compute)

    parser = commands.add_parser("merge", help="bring back the records of another machine")
    parser.add_argument("folder", help="its store")
    add_store(parser, "records")
    parser.set_defaults(run=merge)

    parser = commands.add_parser("run", help="execute the report's notebooks")
    parser.add_argument("out", type=Path, help="folder of the executed notebooks")
    parser.add_argument("--profile", help="of notebooks/profiles; default: the notebooks' own")
    add_parameters(parser)
    parser.add_argument(
        "--workers", type=at_least_one, default=1, help="notebooks executed at a time (1)"
    )
    parser.add_argument("--store", help="folder of the records, in the place of each page's own")
    parser.set_defaults(run=run)

    parser = commands.add_parser("bench", help="measure this machine, as records")
    parser.add_argument("what", choices=("speed", "zeros", "sweep", "trust"), help=
        "speed: against the released code; zeros: of a GPU's linear layers by shape, a minute; "
        "sweep: statistics against those of a CPU, two minutes; "
        "trust: mistreat the package on purpose, half an hour"
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", metavar="TASK", help="of speed and trust, these tasks alone"
    )
    add_store(parser, MINE)
    parser.set_defaults(run=bench)

    parser = commands.add_parser("data", help="download a data set if it is absent, and verify it")
    parser.add_argument("name", help="mnist-5k, mnist, fashion-mnist, cifar10 or svhn")
    parser.add_argument("--root", help="default: RELUPRIME_DATA, else ~/.cache/reluprime")
    parser.set_defaults(run=data)


def compute(options: argparse.Namespace) -> int:
    """Compute what a store lacks of plans' files, claims' grids, `orders` and `separate`."""
    from reluprime import records
    from reluprime.evidence.compute import compute
    from reluprime.instruments.arithmetic import ARITHMETICS

    if options.arithmetic not in (None, *ARITHMETICS):
        raise ValueError(f"--arithmetic {options.arithmetic}; choose from {', '.join(ARITHMETICS)}")
    cells = [cell for name in options.what for cell in _cells(name, options.arithmetic)]
    cells = [_in_folder(cell, options.image_folder) for cell in cells]
    compute(cells, records.Store(options.store), options.max_seconds, options.workers)
    return 0


def _cells(name: str, arithmetic: str | None) -> list:
    """The cells that a word of `compute` asks for; ValueError for an arithmetic it is not in."""
    from reluprime.evidence.claim import Cell
    from reluprime.evidence.compute import cells_of
    from reluprime.mechanism import orders
    from reluprime.mechanism.grids import orders_grid
    from reluprime.report import plan
    from reluprime.report.scorecard import CLAIMS, OURS
    from reluprime.training import precisions

    claims = {claim.id: claim for claim in (*CLAIMS, *OURS)}
    if name in claims:
        if arithmetic not in (None, *claims[name].arithmetics):
            judged = " and ".join(claims[name].arithmetics)
            raise ValueError(f"--arithmetic {arithmetic}: {name} is judged in {judged} alone")
        return cells_of([claims[name]], arithmetic)
    if arithmetic is not None:
        raise ValueError(f"--arithmetic is of claims' grids, and {name} is no claim")
    if name == "orders":
        return [Cell(orders.shares, config) for config in orders_grid()]
    if name == "separate":
        return precisions.separate_grid()
    if Path(name).is_file():
        return plan.read(Path(name))
    raise ValueError(f"{name} is no file and none of {', '.join(claims)}, orders, separate")


def _in_folder(cell, folder: str | None):
    """A cell that reads a folder of images, with the place of it: a plan does not say that."""
    from reluprime.training.claims.accuracy import NO_COPY

    if getattr(cell.config, "dataset", None) != "image-folder":
        return cell
    if cell.config.fingerprint == NO_COPY:
        raise ValueError(
            "P11 waits for a copy of ImageNet: its config in reluprime/training/claims/accuracy.py "
            "has NO_COPY where the fingerprint of one belongs"
        )
    return cell._replace(config=cell.config.replace(image_folder=folder))


def merge(options: argparse.Namespace) -> int:
    """Append records to a store, and say how many were new and which differ."""
    from reluprime import records
    from reluprime.records.merge import merge

    found = merge(filled_store(options.folder), records.Store(options.store))
    print(", ".join(f"{len(kind)} {name}" for name, kind in found.items()))
    for record in found["different"]:
        where = f"{record['study']} on {record['provenance']['device_name']}"
        print(f"different: {record['key']}, {where}; of the two results the newer counts")
    return 0


def run(options: argparse.Namespace) -> int:
    """Execute notebooks; 1 if one fails."""
    from reluprime.report import run

    values = parameters(options) | ({"store": options.store} if options.store else {})
    try:
        for name, seconds in run.execute_all(
            options.out, options.profile, values, tuple(options.page), options.workers
        ):
            print(f"{name}: {seconds:.0f} s", flush=True)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def bench(options: argparse.Namespace) -> int:
    """Measure speeds, statistics, or the zeros of a GPU's kernels, into a store."""
    from reluprime import records
    from reluprime.instruments import precision
    from reluprime.mechanism import linear_zeros
    from reluprime.mechanism.grids import gpu_grid
    from reluprime.speed import measure
    from reluprime.speed.grids import grid
    from reluprime.speed.tables import table
    from reluprime.speed.tasks import TASKS

    device, store = precision.best_device(), records.Store(options.store)
    if options.only and options.what in ("zeros", "sweep"):
        raise ValueError(f"--only is of speed and trust, and {options.what} has no tasks")
    if options.what == "zeros":
        if device.type != "cuda":
            raise ValueError("it counts zeros of a GPU's kernels, and there is no NVIDIA GPU here")
        records.sweep(linear_zeros, gpu_grid(), store, device=device)
        return 0
    if options.what == "trust":
        return _trust(options, store)
    if options.what == "sweep":
        return _sweep(store, device)
    if unknown := {*(options.only or ())} - {*TASKS}:
        raise ValueError(f"no task {', '.join(unknown)}; choose from {', '.join(TASKS)}")
    configs = [c for c in grid(device) if not options.only or c.task in options.only]
    frame = records.sweep(measure, configs, store, compute="always", device=device)
    print(table(frame).to_string(index=False))
    return 0


def _sweep(store, device) -> int:
    """Compare this device's statistics with a CPU's; 1 if one differs."""
    from reluprime import records
    from reluprime.report import devices

    devices.compute(store, device)
    found = devices.compare(store, records.Store(devices.REFERENCE))
    print(found.to_string(index=False))
    return 1 if (found["verdict"] == "differs").any() else 0


def _trust(options: argparse.Namespace, store) -> int:
    """The campaign, two families at a time; 1 if anything went wrong in it."""
    from concurrent.futures import ThreadPoolExecutor

    import pandas as pd

    from reluprime import records
    from reluprime.trust import tables
    from reluprime.trust.grids import Trust
    from reluprime.trust.study import CAMPAIGN

    if not CAMPAIGN.is_file():
        raise ValueError(f"it is among the tests, and {CAMPAIGN} is missing: run it in a clone")
    asked = Trust(families=options.only) if options.only else Trust()
    ((study, grid),) = asked.grids().values()
    grid.sort(key=lambda config: config.family not in ("commands", "page killed"))  # the longest
    with ThreadPoolExecutor(2) as pool:  # each family waits for a process of its own
        frame = pd.concat(
            pool.map(lambda c: records.sweep(study, [c], store, "always", device="cpu"), grid)
        )
    print(tables.table(frame).to_string(index=False))
    if tables.bad(frame):
        print(tables.failures(frame).to_string(index=False))
    return 1 if tables.bad(frame) else 0


def data(options: argparse.Namespace) -> int:
    """Download a set if it is absent, verify it, and print its shapes."""
    from reluprime.instruments import data

    found = data.load(options.name, options.root, download=True, device="cpu")
    train, test = tuple(found.train_images.shape), tuple(found.test_images.shape)
    print(f"{found.name}: train {train}, test {test}")
    return 0
