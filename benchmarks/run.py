"""How fast this package is, against the released code on the same device in the same run.

    RELUPRIME_DATA=ROOT python benchmarks/run.py [--only mlp-256 ...] [--store records]

Needs the full MNIST and CIFAR-10. Each task is warmed up and measured several times in turns with
what it is compared to; a record with device and date goes to the store, in the place of an older
one of that kind of device, and the report's page of speeds shows it. Idle machines measure best.
"""

import argparse

import torch

from reluprime import records
from reluprime.instruments import precision
from reluprime.speed import study as speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(speed.TASKS), metavar="TASK")
    parser.add_argument("--store", default="records", help="folder of the records")
    parser.add_argument("--device", type=torch.device, default=precision.best_device())
    args = parser.parse_args()
    configs = [c for c in speed.grid(args.device) if not args.only or c.task in args.only]
    store = records.Store(args.store)
    frame = records.sweep(speed.measure, configs, store, compute="always", device=args.device)
    print(speed.table(frame).to_string(index=False))


if __name__ == "__main__":
    main()
