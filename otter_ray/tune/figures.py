"""Figures of the models that a space reaches, each measured once; and which of them constraints let train."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import islice, takewhile
from pathlib import Path

import optuna
import torch
from optuna.trial import FrozenTrial, Trial

from otter_ray.config import Config, Constraint, Space, StudyOptions
from otter_ray.errors import ExportError, OtterError
from otter_ray.export.figures import LATENCY, architecture, fresh_model, measure
from otter_ray.files import written_whole
from otter_ray.report.rows import FIGURES, is_infeasible
from otter_ray.report.tables import shown
from otter_ray.train.mixin import BaseMixin

FILE = "figures.json"
IN_A_ROW = 200  # configurations that violate a constraint, before the search gives up
MOST = 64  # architectures that are measured before the start
# Where a config says what its model is.
SHAPING = ("model", "onnx", "common.image_size")


class FigureBook:
    """Figures by architecture, kept in the study's folder: a resumed study measures none of them again.

    Args:
        names: of the figures.
        file: where they are kept; None: nowhere.
    """

    def __init__(self, names: Collection[str], file: Path | None = None) -> None:
        self.names, self.file = names, file
        kept = json.loads(file.read_text()) if file is not None and file.is_file() else {}
        self._known: dict[str, dict[str, float]] = kept.get("figures", {})
        self.tried: list[str] = kept.get("tried", [])

    def of(self, config: Config, model: BaseMixin | None = None) -> dict[str, float]:
        """The figures of a config's model, by name.

        Args:
            model: it, with random weights, where it has been built.

        Raises:
            OtterError: it cannot be built or exported.
        """
        key = digest(architecture(config))
        if key not in self._known:
            with one_thread():
                try:
                    self._known[key] = measure(config, model or fresh_model(config), self.names)
                except (OtterError, OSError):
                    raise
                except Exception as exc:  # whatever a model raises that does not fit together
                    raise ExportError(f"{type(exc).__name__}: {exc}") from exc
            self.keep()
        return self._known[key]

    def keep(self, tried: Sequence[str] = ()) -> None:
        """Writes down what is known, and what else the pre-flight has `tried`."""
        self.tried += tried
        if self.file is not None:
            with written_whole(self.file) as partial:
                known = {"figures": self._known, "tried": self.tried}
                partial.write_text(json.dumps(known, indent=1) + "\n")


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, which small batches take no longer on, and its random numbers untouched.

    On a busy machine the threads of one step wait for each other: 5 s in place of 0.1 s were measured.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def digest(text: str) -> str:
    """A short name for an architecture."""
    return sha256(text.encode()).hexdigest()[:16]


def measure_first(config: Config, space: Space, book: FigureBook) -> None:
    """Measures latencies that the space reaches while nothing trains beside it, of `MOST` models at most."""
    if LATENCY not in book.names:
        return
    distinct = {}
    for values in islice(space.combinations(config, SHAPING), 10 * MOST):
        with suppress(OtterError):
            branch = config.with_values(values)
            distinct[architecture(branch)] = branch
    for branch in islice(distinct.values(), MOST):
        with suppress(OtterError):  # the trial that draws it says so
            book.of(branch)


def violated(config: Config, options: StudyOptions, book: FigureBook) -> list[str]:
    """The constraints that a config's model does not satisfy, each with the figure."""
    if not options.bounds:
        return []
    figures = book.of(config)
    return [
        f"{bound.text} ({shown(figures[bound.figure])})"
        for bound in options.bounds
        if bound.excess(figures) > 0
    ]


def is_admitted(trial: Trial, config: Config, options: StudyOptions, book: FigureBook) -> bool:
    """Whether the trial satisfies the constraints. Its figures and what they say go into the journal.

    Optuna's samplers read constraints there (TPE, GP, NSGA-II; Deb et al. 2002, 10.1109/4235.996017): by how
    much of the bound each is violated, 0 or less where it holds. All trials have all of them.
    """
    figures = trial.user_attrs.get(FIGURES) or book.of(config)
    trial.set_user_attr(FIGURES, figures)
    known = trial.constraints
    for bound in options.bounds:
        if bound.text not in known:
            trial.set_constraint(bound.text, bound.excess(figures))
    return all(bound.excess(figures) <= 0 for bound in options.bounds)


def in_vain(study: optuna.Study, bounds: Sequence[Constraint]) -> str:
    """Why no further configuration is drawn; empty: not so many in a row violated a constraint."""
    trials = study.get_trials(deepcopy=False)
    draws = [*takewhile(is_infeasible, reversed(trials))]
    if len(draws) < IN_A_ROW:
        return ""
    tightest = max(bounds, key=lambda bound: _violations(draws, bound))
    reached = [t.user_attrs[FIGURES][tightest.figure] for t in trials if FIGURES in t.user_attrs]
    return (
        f"{len(draws)} configurations in a row violate a constraint. The tightest is {tightest.text}: what "
        f"was drawn has {tightest.figure} from {shown(min(reached))} to {shown(max(reached))}. Loosen it, or "
        "widen the space"
    )


def _violations(trials: Sequence[FrozenTrial], bound: Constraint) -> tuple[int, float]:
    """(how many violate it, by how much together)."""
    excesses = [excess for trial in trials if (excess := trial.constraints.get(bound.text, 0.0)) > 0]
    return len(excesses), sum(excesses)
