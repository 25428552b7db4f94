"""Where the time of an export goes, from a checkpoint to the file that passed the gate.

    python benchmarks/export.py [CONFIG] [--set KEY=VALUE ...] [--json FILE]

One epoch is trained for a checkpoint. Then the export runs in this process, which has imported everything,
with a clock around each stage. What the metric costs by itself is told apart: the validation set is run
through the file and the PyTorch model, and so is the test split.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from results import keep

from otter_ray.config import load_config
from otter_ray.export import exporter as run
from otter_ray.export import gate
from otter_ray.train.run_options import RunHooks
from otter_ray.train.trainer import run_training

# Stage -> the functions that it is, each where it is looked up. Those of a stage do not call each other.
STAGES: dict[str, list[tuple[Any, str]]] = {
    "read the checkpoint, build the model": [(run, "read_checkpoint"), (run, "load_model_from_config")],
    "trace and write the file": [(run, "wrap"), (run, "write_onnx")],
    "open the validation and test data": [(run, "build_valid"), (run, "build_test")],
    "check the file, open a session": [
        (gate.onnx, "load"), (gate.onnx.checker, "check_model"), (gate.onnxruntime, "InferenceSession")
    ],
    "batches of 1, 2 and 7": [(gate, "_run_batch")],
    "run the images (the metric's own)": [(gate, "_run_validation")],
    "FLOPs, parameters, provenance": [(run, "_provenance"), (run, "add_metadata")],
}  # fmt: skip
OWN = "run the images (the metric's own)"


def clocked(function: Callable[..., Any], spent: dict[str, float], stage: str) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[stage] += time.perf_counter() - begun

    return timed


def one(checkpoint: Path, folder: Path) -> dict[str, float]:
    """Seconds by stage, and of all of it."""
    spent = dict.fromkeys(STAGES, 0.0)
    originals = [(where, name, getattr(where, name)) for places in STAGES.values() for where, name in places]
    for stage, places in STAGES.items():
        for where, name in places:
            setattr(where, name, clocked(getattr(where, name), spent, stage))
    try:
        begun = time.perf_counter()
        run.export_checkpoint(checkpoint, folder)
        whole = time.perf_counter() - begun
    finally:
        for where, name, function in originals:
            setattr(where, name, function)
    spent["metric, interval and the rest"] = whole - sum(spent.values())
    return {**spent, "whole": whole, "beyond the metric's own": whole - spent[OWN]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config", nargs="?", default="demo")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.sets).with_values({"trainer.max_epochs": 1})
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = run_training(config, Path(folder) / "run", lambda _: None, hooks=RunHooks())
        runs = [one(checkpoint, Path(folder) / str(count)) for count in range(arguments.repetitions)]
    by_stage = {stage: [spent[stage] for spent in runs] for stage in runs[0]}
    figures = {
        stage: {"median": median(seconds), "spread": [min(seconds), max(seconds)]}
        for stage, seconds in by_stage.items()
    }
    print(json.dumps(figures, indent=1))
    keep(arguments.json, "export", {"config": config.name, "sets": arguments.sets, "seconds": figures})


if __name__ == "__main__":
    main()
