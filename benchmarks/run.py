"""Runs all benchmarks, or some, and writes `docs/explanation/benchmarks.md`.

    python benchmarks/run.py [--only study data ...]

Their figures stay in `benchmarks/results/`: what is not run again keeps its own. All of it takes some three
hours on two cores, which should do nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import page

HERE = Path(__file__).parent
# Name of the results -> the command, but for the file that its figures go to.
COMMANDS = {
    "start": "start.py",
    "study": "study.py --trials 24 60 --repetitions 3 --trials-slow 24",
    "step": "step.py demo",
    "step_gpu": "step.py demo --device cuda --sizes 128 --precisions 32 bf16-mixed --epochs 3"
    " --set common.batch_size=1024 --set dataset.train_options.options.length_of_dataset=153600"
    " --set dataloader.train_options.num_workers=15 --set dataloader.train_options.persistent_workers=true",
    "data": "data.py",
    "metric": "metric.py",
    "driver": "driver.py --trials 10000 --then 100000",
    "actors": "actors.py",
    "forks": "forks.py",
    "export": "export.py demo",
    "partial_fc": "partial_fc.py",
    "nodes": "nodes.py",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    here = [name for name in COMMANDS if not name.endswith("_gpu") or shutil.which("nvidia-smi")]
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=here)
    for name in parser.parse_args().only:
        script, *rest = COMMANDS[name].split()
        file = page.RESULTS / f"{name}.json"
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / script), *rest, "--json", str(file)], check=True)
        page.write()


if __name__ == "__main__":
    main()
