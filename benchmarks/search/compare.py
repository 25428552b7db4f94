"""Ours against what users would pick instead, on both tables.

    python benchmarks/search/compare.py [--seeds 50] [--processes 2]

Writes `replay.parquet` (every study), `../../docs/search-replay.png` and prints the tables of docs/search.md.
A study that is in `replay.parquet` already is not replayed again: delete the file to begin anew.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from methods import METHODS, OURS
from numpy.typing import NDArray
from replay import replay
from surrogate import Surrogate, Task, task

HERE = Path(__file__).parent
RESULTS = HERE / "replay.parquet"
PLOT = HERE.parents[1] / "docs" / "search-replay.png"
TASKS, SLOTS = ("documents", "digits"), (1, 4, 32)
TRAININGS = 48  # the budget of a study, in whole trainings
MARKS = 16  # equal parts of the budget at which studies are compared
Key = tuple[str, int, str, int]  # task, slots, method, seed
Curves = dict[tuple[str, int, str], NDArray[np.float64]]  # (task, slots, method) -> [seeds, marks]


@cache
def world(name: str) -> tuple[Task, Surrogate]:
    """A task and its surrogate, once a process."""
    what = task(name)
    return what, Surrogate(what)


def study(key: Key) -> dict[str, Any]:
    """One replayed study, at the marks."""
    name, slots, method, seed = key
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    what, surrogate = world(name)
    budget = TRAININGS * surrogate.epochs
    found = replay(METHODS[method], what, surrogate, slots, seed, budget)
    at = np.linspace(0, budget, MARKS + 1).astype(int)[1:] - 1
    return {
        "task": name,
        "slots": slots,
        "method": method,
        "seed": seed,
        "epochs": (at + 1).tolist(),
        "logged": found[0, at].tolist(),
        "average": found[1, at].tolist(),
    }


def replays(seeds: int, processes: int) -> list[dict[str, Any]]:
    """All studies; those that are missing are run, and written down as they come."""
    rows = pq.read_table(RESULTS).to_pylist() if RESULTS.exists() else []
    done = {(row["task"], row["slots"], row["method"], row["seed"]) for row in rows}
    wanted = [
        (name, slots, method, seed)
        for seed, name, slots, method in product(range(seeds), TASKS, SLOTS, METHODS)
        if (name, slots, method, seed) not in done
    ]
    with get_context("spawn").Pool(processes) as pool:
        for count, row in enumerate(pool.imap_unordered(study, wanted), 1):
            rows.append(row)
            if count % 100 == 0 or count == len(wanted):
                print(f"{count} of {len(wanted)} studies", flush=True)
                pq.write_table(pa.Table.from_pylist(rows), RESULTS)
    return [row for row in rows if row["seed"] < seeds and row["method"] in METHODS]


def curves_of(rows: list[dict[str, Any]], what: str) -> Curves:
    """`what` (logged or average) by task, slots and method."""
    grouped: dict[tuple[str, int, str], list[Any]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        grouped.setdefault((row["task"], row["slots"], row["method"]), []).append(row[what])
    return {key: np.array(values) for key, values in grouped.items()}


def interval(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean difference over the same seeds, and its 95 % bootstrap interval."""
    differences = ours - theirs
    drawn = np.random.default_rng(0).integers(len(differences), size=(2000, len(differences)))
    low, high = np.quantile(differences[drawn].mean(1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def report(curves: Curves) -> Iterator[str]:
    """For each task and number of slots: medians at the end, and ours against the best of the others."""
    for name, slots in product(TASKS, SLOTS):
        cell = {method: curves[name, slots, method] for method in METHODS}
        peers = {method: values for method, values in cell.items() if method != OURS}
        yield f"\n**{name}, {slots} slot{'s' * (slots > 1)}**\n"
        yield "| method | 1/4 of the budget | 1/2 | all (95 % interval of the mean) |"
        yield "| --- | --- | --- | --- |"
        for method, values in cell.items():
            _, low, high = interval(values[:, -1], 0 * values[:, -1])
            shown = [f"{np.median(values[:, mark]):.3f}" for mark in (MARKS // 4 - 1, MARKS // 2 - 1, -1)]
            yield f"| {method} | {' | '.join(shown)} ({low:.3f} to {high:.3f}) |"
        yield "\n" + "\n".join(_verdict(cell[OURS], peers))


def _verdict(ours: NDArray[np.float64], peers: dict[str, NDArray[np.float64]]) -> Iterator[str]:
    worse = []
    for mark in range(MARKS):
        best = max(peers, key=lambda method: peers[method][:, mark].mean())
        mean, low, high = interval(ours[:, mark], peers[best][:, mark])
        if high < 0:
            worse.append(
                f"{(mark + 1) / MARKS:.2f} of the budget ({best}: {mean:.4f}, {low:.4f} to {high:.4f})"
            )
    yield f"Significantly worse than the best at: {'; '.join(worse) or 'no budget'}."
    best = max(peers, key=lambda method: float(np.median(peers[method][:, -1])))
    goal = float(np.median(peers[best][:, -1]))
    reached = np.flatnonzero(np.median(ours, axis=0) >= goal)
    share = f"{(reached[0] + 1) / MARKS:.2f} of its epochs" if len(reached) else "no part of its epochs"
    yield f"The final median of the best of the others ({best}, {goal:.3f}) is reached with {share}."


def plot(curves: Curves, epochs: dict[str, list[int]]) -> None:
    """Medians and their quartiles over the seeds."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(TASKS), len(SLOTS), figsize=(13, 7), sharey="row", layout="constrained")
    for row, name in enumerate(TASKS):
        for column, slots in enumerate(SLOTS):
            axis = axes[row, column]
            for number, method in enumerate(METHODS):
                low, middle, high = np.quantile(curves[name, slots, method], [0.25, 0.5, 0.75], axis=0)
                style = (
                    {"color": "black", "lw": 2.5, "zorder": 9} if method == OURS else {"color": f"C{number}"}
                )
                axis.plot(epochs[name], middle, label=method, **style)
                if method == OURS:
                    axis.fill_between(epochs[name], low, high, color="black", alpha=0.12, lw=0)
            axis.set_title(f"{name}, {slots} slot{'s' * (slots > 1)}", fontsize=10)
            axis.grid(alpha=0.3)
            axis.set_xlabel("epochs of all trials")
        axes[row, 0].set_ylabel("valid_fpr@4 of the winner")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    rows = replays(arguments.seeds, arguments.processes)
    curves = curves_of(rows, "logged")
    plot(curves, {name: next(row["epochs"] for row in rows if row["task"] == name) for name in TASKS})
    for line in report(curves):
        print(line)


if __name__ == "__main__":
    main()
