"""Runs all benchmarks, or some, and writes `docs/benchmarks.md`.

    python benchmarks/run.py [--only study data ...]

Their figures stay in `benchmarks/results/`: what is not run again keeps its own. All of it takes some three
hours on two cores, which should do nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import page

HERE = Path(__file__).parent
# Name of the results -> the command, but for the file that its figures go to.
COMMANDS = {
    "start": "start.py",
    "study": "study.py --trials 24 60 --repetitions 3 --repetitions-slow 1 --trials-slow 24",
    "step": "step.py demo",
    "data": "data.py",
    "metric": "metric.py",
    "driver": "driver.py --trials 10000 --then 100000",
    "actors": "actors.py",
    "export": "export.py demo",
    "partial_fc": "partial_fc.py",
    "nodes": "nodes.py",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=[*COMMANDS])
    for name in parser.parse_args().only:
        script, *rest = COMMANDS[name].split()
        file = page.RESULTS / f"{name}.json"
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / script), *rest, "--json", str(file)], check=True)
        page.write()


if __name__ == "__main__":
    main()
