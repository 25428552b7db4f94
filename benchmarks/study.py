"""A study's wall time against its lower bound, and against what users would pick instead.

    python benchmarks/study.py [--trials 24 60] [--repetitions 3] [--repetitions-slow 1] [--json study.json]

Every contestant is one command that runs the same list of trials, with the same training, data and ASHA, two
at once; all of them in turn, and again. They stop different trials, so each is held against the bound of its
own epochs: one import for each slot (side by side), and the epochs that were run, each at the time that one
takes alone on one CPU, divided by the slots. Import and lone epoch are measured anew in each turn.

`search_s` is from the command's start to the last epoch of the last trial, `command_s` to its exit: ours
exports and proves its winner in between, the others end. Wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from peers import ours
from peers.environment import ROOT, peers_python, versions
from peers.job import Job
from results import keep

SETS = [
    "common.batch_size=32",
    "dataset.train_options.options.length_of_dataset=448",
    "dataset.valid_options.options.captures=12",
]
IMPORTS = "import otter_ray.projects.docclassifier, otter_ray.train.trainer, ray.tune, ray.train.torch"
# Each is a script of `peers/`, with its arguments; {job} is the job's file.
PEERS = {
    "optuna": "optuna_two.py {job}",
    "syne_tune": "syne_tune_local.py {job}",
    "syne_tune_1s": "syne_tune_local.py {job} --sleep 1",
    "one_by_one": "one_by_one.py {job}",
    "ray_recipe": "ray_recipe.py {job}",
}
SLOW = ("one_by_one", "ray_recipe", "syne_tune_1s")
LIMIT_S = 3600  # of one command
LOG = "log.txt"
FIGURES = ("search_s", "command_s", "search_of_bound", "command_of_bound", "of_ours", "of_ours_by_bound")
Row = dict[str, Any]


def run(command: list[str], folder: Path | None = None) -> float:
    """Seconds of a command, which is run in a folder and prints there. CalledProcessError, TimeoutExpired."""
    # Without bytecode every process compiles torch, ray and timm again.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with (folder / LOG if folder else Path(os.devnull)).open("w") as out:
        started = time.perf_counter()
        subprocess.run(
            command, check=True, stdout=out, stderr=out, env=environment, cwd=folder, timeout=LIMIT_S
        )
    return time.perf_counter() - started


def lone_epoch(job: Job) -> float:
    """Median seconds of an epoch, validation and checkpoint included, alone on one CPU."""
    with tempfile.TemporaryDirectory() as folder:
        lone = replace(job, folder=folder, sets=[*job.sets, "trainer.max_epochs=8"], trials=[{}])
        lone.train(0, lambda epoch, value: None)
        marks = [line["time"] for line in lone.epochs()]
    return median(later - earlier for earlier, later in pairwise(marks))


def compete(name: str, job: Job, peers: str | None) -> Row:
    """One contestant's figures of one job."""
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        job = replace(job, folder=folder)
        file = str(job.save())
        if name == "ours":
            command = ours.command(job)
        else:
            script, *rest = PEERS[name].format(job=file).split()
            command = [peers or sys.executable, str(ROOT / "benchmarks/peers" / script), *rest]
        load, started = os.getloadavg()[0], time.time()
        try:
            seconds = run(command, Path(folder))
        except subprocess.SubprocessError as exc:
            raise SystemExit(f"{name}: {exc}\n{(Path(folder) / LOG).read_text()[-3000:]}") from exc
        if name == "ours":
            ours.record(job)
        lines = job.epochs()
    trials = {line["trial"] for line in lines}
    complete = {line["trial"] for line in lines if line["epoch"] == job.max_epochs}
    if len(trials) != len(job.trials):
        raise SystemExit(f"{name} ran {len(trials)} trials of {len(job.trials)}")
    return {
        "contestant": name,
        "search_s": max(line["time"] for line in lines) - started,
        "command_s": seconds,
        "epochs": len(lines),
        "ended": len(trials),
        "stopped": len(trials - complete),
        "load_before": load,
    }


def turn(names: list[str], job: Job, peers: str | None) -> Iterator[Row]:
    """Every contestant's row of one job and repetition, each against its bound and against ours."""
    bound = {"import_s": run([sys.executable, "-c", IMPORTS]), "lone_epoch_s": lone_epoch(job)}
    first = None
    for name in names:
        row = compete(name, job, peers) | bound
        row["bound_s"] = row["import_s"] + row["epochs"] * row["lone_epoch_s"] / job.slots
        for part in ("search", "command"):
            row[f"{part}_of_bound"] = row[f"{part}_s"] / row["bound_s"]
        first = row if name == "ours" else first
        if first:
            row["of_ours"] = row["search_s"] / first["search_s"]
            row["of_ours_by_bound"] = row["search_of_bound"] / first["search_of_bound"]
        yield row


def summary(rows: list[Row]) -> list[Row]:
    """Of each job and contestant: [lowest, median, highest] of each figure."""
    told = []
    for trials, name in dict.fromkeys((row["trials"], row["contestant"]) for row in rows):
        mine = [row for row in rows if (row["trials"], row["contestant"]) == (trials, name)]
        spread: Row = {"trials": trials, "contestant": name, "repetitions": len(mine)}
        for figure in ("epochs", *FIGURES):
            if values := [row[figure] for row in mine if figure in row]:
                spread[figure] = [min(values), median(values), max(values)]
        told.append(spread)
    return told


def show(row: Row) -> None:
    """A line of JSON, to three digits."""
    print(json.dumps(json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 3))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, nargs="+", default=[24, 60])
    parser.add_argument("--slots", type=int, default=2, help="that this machine gives: its CPUs")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--repetitions-slow", type=int, help=f"of {', '.join(SLOW)}; as many by default")
    parser.add_argument("--trials-slow", type=int, nargs="+", help="jobs that those run; all by default")
    names = ["ours", *PEERS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--set", action="append", default=[], help="KEY=VALUE of the config, beyond the job's"
    )
    parser.add_argument(
        "--environment", type=Path, default=Path.home() / ".cache/otter_ray-bench/peers",
        help="folder of the peers' environment; made where it is missing",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="every repetition's figures, written after each command")
    arguments = parser.parse_args()
    slow = arguments.repetitions if arguments.repetitions_slow is None else arguments.repetitions_slow
    peers = peers_python(arguments.environment) if set(arguments.only) - {"ours"} else None
    about = {"slots": arguments.slots, "versions": versions(peers)}
    for python in filter(None, (sys.executable, peers)):
        run([python, "-c", IMPORTS])  # once for the disk's cache, and for bytecode
    rows: list[Row] = []
    for repetition in range(max(arguments.repetitions, slow)):
        for trials in arguments.trials:
            job = Job("", [*SETS, *arguments.set], [], arguments.slots)
            job = replace(job, sets=[*job.sets, f"trainer.max_epochs={job.max_epochs}"])
            job = replace(job, trials=ours.draw(job, trials))
            due = [
                name for name in names if name in arguments.only
                and (name not in SLOW or trials in (arguments.trials_slow or arguments.trials))
                and repetition < (slow if name in SLOW else arguments.repetitions)
            ]  # fmt: skip
            for row in turn(due, job, peers):
                rows.append({"trials": trials, "repetition": repetition, **row})
                show(rows[-1])
                if arguments.json:
                    figures = {**about, "job": {"sets": job.sets}, "rows": rows, "summary": summary(rows)}
                    keep(arguments.json, "study", figures)
    for row in summary(rows):
        show(row)


if __name__ == "__main__":
    main()
