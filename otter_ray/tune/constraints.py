"""Statistics of the models that a space reaches, each measured once, and constraints on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import islice, takewhile
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial
from pydantic import BaseModel

from otter_ray.config import Config
from otter_ray.errors import ExportError, OtterError
from otter_ray.export.architecture import architecture_key
from otter_ray.files import atomic_write, read_json
from otter_ray.formatting import si_number
from otter_ray.isolation import ProcessCrashError, call, run_isolated
from otter_ray.space import Constraint, SearchProblem, StudyOptions
from otter_ray.space.constraint import LATENCY
from otter_ray.study.schema import FIGURES
from otter_ray.study.trials import is_infeasible

MAX_INFEASIBLE = 200  # configurations in a row that violate a constraint, before the search gives up
MAX_MEASURED = 64  # architectures that are measured before the start
# Where a config says what its model is.
ARCHITECTURE_SECTIONS = ("model", "onnx", "common.image_size")


class _Kept(BaseModel):
    """The file in the study's folder."""

    figures: dict[str, dict[str, float]] = {}
    tried: list[str] = []


class ModelStatsCache:
    """Model statistics by architecture_key, kept in the study's folder: a resumed study measures none again.

    Args:
        names: Of the statistics.
        file: Where they are kept; None: nowhere.

    Raises:
        FileError: The file cannot be read.

    Attributes:
        tried: Digests of what the pre-flight has tried.
    """

    def __init__(self, names: Collection[str], file: Path | None = None) -> None:
        self.names, self.file = names, file
        remedy = "Delete it. The models are then measured again."
        kept = (read_json(file, _Kept, remedy) if file else None) or {}
        self._known: dict[str, dict[str, float]] = kept.get("figures", {})
        self.tried: list[str] = kept.get("tried", [])

    def known(self, config: Config) -> dict[str, float] | None:
        """Return the statistics of a config's model if they have been measured."""
        return self._known.get(short_digest(architecture_key(config)))

    def of(self, config: Config) -> dict[str, float]:
        """Return the statistics of a config's model, by name. They are measured unless they are known.

        Raises:
            OtterError: The model cannot be built or exported, or crashes its process.
        """
        if (stats := self.known(config)) is None:
            stats = call(_measured, config, [*self.names])
            self.add(config, stats)
        return stats

    def add(self, config: Config, stats: dict[str, float]) -> None:
        """Keep the statistics of a config's model."""
        self._known[short_digest(architecture_key(config))] = stats
        self.save()

    def save(self, tried: Sequence[str] = ()) -> None:
        """Write what is known to the file.

        Args:
            tried: Digests of what the pre-flight has tried since.
        """
        self.tried += tried
        if self.file is not None:
            with atomic_write(self.file) as partial:
                known = {"figures": self._known, "tried": self.tried}
                partial.write_text(json.dumps(known, indent=1) + "\n")


def _measured(config: Config, names: list[str]) -> dict[str, float]:
    from otter_ray.export.model_stats import measure_untrained

    try:
        return run_isolated(lambda enter: measure_untrained(config, names))
    except ProcessCrashError as exc:
        raise ExportError(f"measuring the model crashes the process ({exc.cause})") from exc


def short_digest(text: str) -> str:
    """Return a short name for an architecture."""
    return sha256(text.encode()).hexdigest()[:16]


def measure_latencies(problem: SearchProblem, cache: ModelStatsCache) -> None:
    """Measure latencies while nothing trains, of `MAX_MEASURED` models at most.

    Nothing is measured unless the study asks for latencies.
    """
    if not any(name.partition("@")[0] == LATENCY for name in cache.names):
        return
    distinct, config = {}, problem.config
    for values in islice(problem.space.combinations(config, ARCHITECTURE_SECTIONS), 10 * MAX_MEASURED):
        with suppress(OtterError):
            branch = config.with_values(values)
            distinct[architecture_key(branch)] = branch
    for branch in islice(distinct.values(), MAX_MEASURED):
        with suppress(OtterError):  # the trial that draws it reports the error
            cache.of(branch)


def violations(config: Config, options: StudyOptions, cache: ModelStatsCache) -> list[str]:
    """Return the constraints that a config's model violates, each with the measured value."""
    if not options.bounds:
        return []
    stats = cache.of(config)
    return [
        f"{bound.text} ({si_number(stats[bound.stat])})"
        for bound in options.bounds
        if bound.excess(stats) > 0
    ]


def record_feasibility(trial: Trial, config: Config, options: StudyOptions, cache: ModelStatsCache) -> bool:
    """Write a trial's model statistics and its constraints to the journal.

    Optuna's samplers read constraints there (TPE, GP, NSGA-II; Deb et al. 2002, 10.1109/4235.996017): by what
    share of the bound each is violations, 0 or less if it holds. Every trial has every constraint.

    Returns:
        Whether the trial satisfies all constraints.
    """
    stats = trial.user_attrs.get(FIGURES) or cache.of(config)
    trial.set_user_attr(FIGURES, stats)
    known = trial.constraints
    for bound in options.bounds:
        if bound.text not in known:
            trial.set_constraint(bound.text, bound.excess(stats))
    return all(bound.excess(stats) <= 0 for bound in options.bounds)


def infeasible_streak(study: optuna.Study, bounds: Sequence[Constraint]) -> str:
    """Return why no further configuration is drawn; empty unless too many in a row violated a constraint."""
    trials = study.get_trials(deepcopy=False)
    draws = [*takewhile(is_infeasible, reversed(trials))]
    if len(draws) < MAX_INFEASIBLE:
        return ""
    tightest = max(bounds, key=lambda bound: _total_violation(draws, bound))
    reached = [t.user_attrs[FIGURES][tightest.stat] for t in trials if FIGURES in t.user_attrs]
    return (
        f"{len(draws)} configurations in a row violate a constraint. The tightest is {tightest.text}: the "
        f"drawn models have {tightest.stat} from {si_number(min(reached))} to {si_number(max(reached))}. "
        "Loosen the constraint, or widen the space"
    )


def _total_violation(trials: Sequence[FrozenTrial], bound: Constraint) -> tuple[int, float]:
    """Return (how many trials violate it, by how much together)."""
    excesses = [excess for trial in trials if (excess := trial.constraints.get(bound.text, 0.0)) > 0]
    return len(excesses), sum(excesses)
