"""Ours against what users would pick instead, on three tables and two surrogates of each.

    python benchmarks/search/compare.py [--seeds 50] [--processes 2] [--methods NAME ...]

Writes `replay.parquet` (every study), `../../docs/images/search-replay.png` and
prints the tables of docs/explanation/defaults.md.
A study that is in `replay.parquet` already is not replayed again: delete the file to start again.
"""

from __future__ import annotations

import argparse
import warnings
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from methods import METHODS
from replay import replay
from report import MARKS, plot, report
from surrogate import Answers, Surrogate
from tasks import TASKS, Task, task

RESULTS = Path(__file__).parent / "replay.parquet"
# Slots -> the budget of a study, in whole trainings. With 32 slots 48 would be a round and a half.
TRAININGS = {1: 48, 4: 48, 32: 192}
ANSWERS: tuple[Answers, ...] = get_args(Answers)
Key = tuple[str, Answers, int, str, int]  # task, answers, slots, method, seed


@cache
def world(name: str, answers: Answers) -> tuple[Task, Surrogate]:
    """A task and its surrogate, once a process."""
    what = task(name)
    return what, Surrogate(what, answers)


def study(key: Key) -> dict[str, Any]:
    """One replayed study, at the marks."""
    name, answers, slots, method, seed = key
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    what, surrogate = world(name, answers)
    budget = TRAININGS[slots] * surrogate.epochs
    found = replay(METHODS[method], what, surrogate, slots, seed, budget)
    at = np.linspace(0, budget, MARKS + 1).astype(int)[1:] - 1
    return {
        "task": name,
        "answers": answers,
        "slots": slots,
        "method": method,
        "seed": seed,
        "epochs": (at + 1).tolist(),
        "logged": found[0, at].tolist(),
        "average": found[1, at].tolist(),
    }


def replays(seeds: int, processes: int, methods: list[str]) -> list[dict[str, Any]]:
    """All studies; those that are missing are run, and written down as they come."""
    rows = pq.read_table(RESULTS).to_pylist() if RESULTS.exists() else []
    done = {tuple(row[part] for part in ("task", "answers", "slots", "method", "seed")) for row in rows}
    keys = product(range(seeds), TASKS, ANSWERS, TRAININGS, methods)
    wanted = [key for s, *cell, method in keys if (key := (*cell, method, s)) not in done]
    with get_context("spawn").Pool(processes) as pool:
        for count, row in enumerate(pool.imap_unordered(study, wanted), 1):
            rows.append(row)
            if count % 100 == 0 or count == len(wanted):
                print(f"{count} of {len(wanted)} studies", flush=True)
                pq.write_table(pa.Table.from_pylist(rows), RESULTS, compression="zstd")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=[*METHODS], help="which to replay; default: all")
    arguments = parser.parse_args()
    rows = replays(arguments.seeds, arguments.processes, arguments.methods)
    plot(rows)
    for line in report(rows):
        print(line)


if __name__ == "__main__":
    main()
