"""How long a user waits: for help, for a mistake to be told, and for the first trial to train.

    python benchmarks/start.py [--json FILE]

The first trial's bound is Ray's start and one import, one after the other; each is measured by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from results import keep

TUNE = [sys.executable, "-m", "otter_ray.tune"]
RAY = 'import ray; ray.init(address="local", include_dashboard=True, log_to_driver=False)'
IMPORTS = (
    "import otter_ray.projects.docclassifier, otter_ray.tune.worker.trainable, otter_ray.train.trainer, "
    "ray.tune, ray.train.torch"
)
SHORT = [
    "--trials",
    "2",
    "--set",
    "trainer.max_epochs=1",
    "--set",
    "dataset.train_options.options.length_of_dataset=64",
]


def seconds(command: list[str]) -> float:
    """Of a command, whatever it says."""
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begun


def first_trial() -> float:
    """From the command to the first trial's training, which its TensorBoard file begins with."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.time()
        process = subprocess.Popen(
            [*TUNE, "demo", *SHORT, "--runs", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while not (found := [*Path(folder).rglob("trials/*/config.yaml")]):
                if process.poll() is not None:
                    raise SystemExit("the study ended before a trial began")
                time.sleep(0.02)
            return min(file.stat().st_mtime for file in found) - begun
        finally:
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    waits = {
        "--help": lambda: seconds([*TUNE, "--help"]),
        "a mistake in the config": lambda: seconds([*TUNE, "demo", "--set", "trainer.max_epochs=0"]),
        "Ray's start": lambda: seconds([sys.executable, "-c", RAY]),
        "one import": lambda: seconds([sys.executable, "-c", IMPORTS]),
        "the first trial trains": first_trial,
    }
    found: dict[str, list[float]] = {name: [] for name in waits}
    for _ in range(arguments.repetitions):
        for name, wait in waits.items():
            found[name].append(wait())
            print(json.dumps({"wait": name, "seconds": round(found[name][-1], 2)}), flush=True)
    figures = {
        name: {"median": median(values), "spread": [min(values), max(values)]}
        for name, values in found.items()
    }
    keep(arguments.json, "start", figures)


if __name__ == "__main__":
    main()
