"""One trial after another, as Otter's `train.bash` is used: a process each, all CPUs, to its last epoch.

python one_by_one.py JOB
"""

from __future__ import annotations

import subprocess
import sys

from job import METRIC, Job


def main(file: str) -> None:
    job = Job.load(file)
    for number, values in enumerate(job.trials):
        # Pictures would not be asked of the others.
        sets = [*job.sets, *(f"{key}={value}" for key, value in values.items()), "common.preview=false"]
        command = [sys.executable, "-m", "otter_ray.train", "demo", "--metric", METRIC]
        command += ["--folder", str(job.trial_folder(number))]
        subprocess.run([*command, *(part for text in sets for part in ("--set", text))], check=True)
        for epoch in range(1, job.max_epochs + 1):
            job.record(number, epoch)


if __name__ == "__main__":
    main(sys.argv[1])
