"""What finalists are worth: the true mean of a search's winner with and without them, for the same epochs.

    python benchmarks/search/finalists.py [--seeds 10] [--slots 1 4]

The runs of the finalists are paid for by a shorter search. A run's noise is that of another seed of the same
configuration; its value is the best over its epochs, as a study takes it. The true mean is what the winner's
configuration logs on average at the epoch of its best value.
"""

from __future__ import annotations

import argparse
import warnings
from itertools import product

import numpy as np
import optuna
from compare import ANSWERS, TRAININGS, world
from methods import METHODS, OURS, seeded
from replay import Study
from tasks import TASKS

CHOICES = ((0, 0), (2, 2), (3, 2), (3, 3), (5, 2))  # (top, seeds); the first is a study without finalists


def outcomes(study: Study, budget: int) -> list[tuple[float, float]]:
    """(what the winner logged, its true mean) for each of CHOICES; a mean over the seeds counts as logged."""
    return [
        _outcome(study, budget - top * seeds * study.surrogate.epochs, top, seeds) for top, seeds in CHOICES
    ]


def _outcome(study: Study, budget: int, top: int, seeds: int) -> tuple[float, float]:
    if not top:
        (winner,) = study.top(1, budget)
        logged = max(value for spent, key, value in study.gains if key == winner and spent < budget)
        noisy, mean = study.curves[winner]
        return logged, float(mean[0, int(np.flatnonzero(noisy[0] == np.float64(logged))[0])])
    found = []
    for key in study.top(top, budget):
        runs = [study.surrogate.curves(study.values[key], str(seed)) for seed in range(1, seeds + 1)]
        best = max(runs, key=lambda run: float(run[0][0].max()))
        logged = float(np.mean([noisy[0].max() for noisy, _ in runs]))
        found.append((logged, float(best[1][0, int(best[0][0].argmax())])))
    return max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--slots", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--answers", nargs="*", default=[*ANSWERS])
    parser.add_argument("--trainings", type=int, nargs="*", help="the budget; default: as in compare.py")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(
        "| table | answers | slots | trainings | "
        + " | ".join(f"top {t} over {s}" for t, s in CHOICES)
        + " |"
    )
    print("| --- " * (4 + len(CHOICES)) + "|")
    for name, answers, slots in product(TASKS, arguments.answers, arguments.slots):
        task, surrogate = world(name, answers)
        for trainings in arguments.trainings or [TRAININGS[slots]]:
            found = []
            for seed in range(arguments.seeds):
                seeded(seed)
                study = Study(surrogate, METHODS[OURS](task, surrogate.epochs, seed), slots, seed)
                study.run(trainings * surrogate.epochs)
                found.append(outcomes(study, trainings * surrogate.epochs))
            values = np.array(found)  # [seeds, choices, 2]
            means, gains = values.mean(0), values[:, :, 1] - values[:, :1, 1]
            errors = gains.std(0, ddof=1) / np.sqrt(len(gains))
            shown = [f"{means[0, 0]:.3f}, true {means[0, 1]:.3f}"]
            for (logged, _), gain, error in zip(means[1:], gains.mean(0)[1:], errors[1:], strict=True):
                shown.append(f"{logged:.3f}, true {gain:+.3f} ({error:.3f})")
            print(f"| {name} | {answers} | {slots} | {trainings} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
