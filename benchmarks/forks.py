"""What forked workers save: each figure with the fork server and without it, in turn.

    python benchmarks/forks.py [--repetitions 3] [--json FILE]

`replaced_s`: from the kill of a slot to the end of its trial's next epoch. `group_s`: seconds a trial of two
workers, of eight that train one tiny epoch each, one after the other. `private_mb`: memory of a slot that
trains which no other process shares. Wants a Linux machine with two cores that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import yaml
from results import keep

from otter_ray.study.journal import read_study
from otter_ray.tune.worker.forks import SWITCH

TINY = ["dataset.train_options.options.length_of_dataset=64", "dataset.valid_options.options.captures=2"]
SPACE = {
    "parameters": {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}},
    "study": {"scheduler": {"name": "none"}},
}
GROUPS = 8  # trials of two workers
MARK = "OTTER_RAY_BENCHMARK"  # in the environment of all that a study starts


@contextmanager
def study(forks: bool, trials: int, epochs: int, workers: int = 1) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A running study and its folder. It is ended with the block."""
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        resources = {"cpus_per_worker": 1, "workers_per_trial": workers}
        space = {**SPACE, "study": {**SPACE["study"], "num_trials": trials, "resources": resources}}
        (Path(folder) / "space.yaml").write_text(yaml.safe_dump(space))
        sets = [word for each in (*TINY, f"trainer.max_epochs={epochs}") for word in ("--set", each)]
        process = subprocess.Popen(
            [sys.executable, "-m", "otter_ray.tune", "demo", "--space", "space.yaml", "--name", "x", *sets],
            cwd=folder,
            env={**os.environ, SWITCH: str(int(forks)), MARK: folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process, Path(folder) / "runs/demo/x"
        finally:
            for _ in range(2):
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    time.sleep(1)
            process.wait()


def slots(folder: Path) -> set[int]:
    """Process IDs of the slots that train, of the study in a folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            named = (entry / "cmdline").read_bytes().startswith(b"ray::demo/")
            mine = f"{MARK}={folder.parents[2]}".encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if named and mine:
            found.add(int(entry.name))
    return found


def when(condition: Callable[[], object], process: subprocess.Popen) -> float:
    """The time at which a condition holds."""
    while not condition():
        if process.poll() is not None:
            raise SystemExit("the study ended before it could be measured")
        time.sleep(0.02)
    return time.perf_counter()


def replaced_s(forks: bool) -> float:
    """Seconds from the kill of a slot to the next epoch's end of its trial."""
    with study(forks, trials=1, epochs=300) as (process, folder):
        checkpoint = folder / "trials/0000/checkpoints/last.ckpt"
        when(checkpoint.is_file, process)
        (victim,) = slots(folder)
        os.kill(victim, signal.SIGKILL)
        killed, last = time.perf_counter(), checkpoint.stat().st_mtime_ns
        return when(lambda: checkpoint.stat().st_mtime_ns > last, process) - killed


def private_mb(forks: bool) -> float:
    """MB that a slot owns alone, the mean of two."""
    with study(forks, trials=2, epochs=300) as (process, folder):
        when(lambda: len([*folder.glob("trials/*/checkpoints/last.ckpt")]) == 2, process)
        return sum(_private_kb(pid) for pid in slots(folder)) / 2 / 1000


def _private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def group_s(forks: bool) -> float:
    """Seconds a trial, from the first one's end to the last one's."""
    with study(forks, trials=GROUPS, epochs=1, workers=2) as (process, folder):
        process.wait()
        ends = [trial.datetime_complete for trial in read_study(folder / "study.journal").get_trials()]
    return (max(ends) - min(ends)).total_seconds() / (GROUPS - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    measures = {each.__name__: each for each in (replaced_s, group_s, private_mb)}
    found = {name: {"forked": [], "alone": []} for name in measures}
    for _ in range(arguments.repetitions):
        for name, measure in measures.items():
            for way in ("forked", "alone"):
                found[name][way].append(round(measure(way == "forked"), 2))
                print(json.dumps({"measure": name, "way": way, "value": found[name][way][-1]}), flush=True)
    figures = {
        name: {way: {"median": median(all_), "spread": [min(all_), max(all_)]} for way, all_ in ways.items()}
        for name, ways in found.items()
    }
    keep(arguments.json, "forks", figures)


if __name__ == "__main__":
    main()
