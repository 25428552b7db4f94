"""The trials of a study as plain records, read from its Optuna study."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState

from otter_ray.config import Config
from otter_ray.direction import Direction
from otter_ray.files import atomic_write
from otter_ray.redaction import safe_text
from otter_ray.study.layout import trial_log
from otter_ray.study.optuna_compat import read_trial
from otter_ray.study.schema import (
    CONFIG,
    CURVE,
    EPOCH,
    ERROR,
    FIGURES,
    HOST,
    OBJECTIVES,
    SECONDS,
    STOPPED,
    VALUES,
)
from otter_ray.study.status import TrialStatus

STATUS_OF = {
    TrialState.COMPLETE: TrialStatus.COMPLETE,
    TrialState.PRUNED: TrialStatus.PRUNED,
    TrialState.FAIL: TrialStatus.FAILED,
    TrialState.RUNNING: TrialStatus.UNFINISHED,
    TrialState.WAITING: TrialStatus.WAITING,
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: from 0.
        is_base: whether it is the base config as it stands.
        state: its status.
        value: best value of the metric over the epochs, None without any.
        best_epoch, epochs: the epoch of that value, and the last completed one; from 1, 0 for none.
        values: dotted keys that the trial changed in the base config.
        curve: the metric by epoch, from the first.
        metrics: everything that was logged, one mapping for each epoch.
        seconds, host: how long it was trained, and where.
        error: why it failed.
        log: the path of its log, relative to the study's folder.
        config: if the study's config has changed since: the file, in the study's folder, of the config that
            `values` change.
        figures: model statistics by name, and the values of the other objectives at `best_epoch`.
        is_feasible: whether it satisfies the constraints; the base config is trained even if it does not.
    """

    number: int
    is_base: bool
    state: TrialStatus
    value: float | None
    best_epoch: int
    epochs: int
    values: dict[str, Any]
    curve: list[float]
    metrics: list[dict[str, float]]
    seconds: float | None
    host: str | None
    error: str | None
    log: str
    config: str | None
    figures: dict[str, float] = field(default_factory=dict)
    is_feasible: bool = True

    @property
    def has_ended(self) -> bool:
        """Whether it was trained, and nothing of it is to come."""
        return self.state.has_ended


def read_records(study: optuna.Study) -> list[TrialRecord]:
    """Read all trials of the study, by number."""
    direction, others = direction_of(study), objectives_of(study)
    return [trial_record(trial, direction, others) for trial in study.get_trials(deepcopy=False)]


def read_record(study: optuna.Study, number: int) -> TrialRecord:
    """Read one trial of the study, as fast in a long study as in a short one."""
    return trial_record(read_trial(study, number), direction_of(study), objectives_of(study))


def direction_of(study: optuna.Study) -> Direction:
    """Return which values of the metric, the first objective, are better."""
    is_max = study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
    return Direction.MAX if is_max else Direction.MIN


def objectives_of(study: optuna.Study) -> dict[str, Direction]:
    """Return the study's objectives besides its metric."""
    return {name: Direction(mode) for name, mode in study.user_attrs.get(OBJECTIVES, {}).items()}


def is_feasible(trial: FrozenTrial) -> bool:
    """Say whether a trial satisfies the constraints, as far as they are known."""
    return all(excess <= 0 for excess in trial.constraints.values())


def is_infeasible(trial: FrozenTrial) -> bool:
    """Say whether a constraint kept a trial from being trained; a trial that ASHA stops has a value."""
    return not (is_feasible(trial) or trial.intermediate_values) and trial.state == TrialState.PRUNED


def trial_record(trial: FrozenTrial, direction: Direction, others: Collection[str]) -> TrialRecord:
    """Read one trial of a study with these `others` among its objectives."""
    finite = {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
    best = direction.best(finite, finite.__getitem__) if finite else 0
    notes = trial.user_attrs
    logged = notes.get(CURVE + str(best), {})
    return TrialRecord(
        number=trial.number,
        is_base=notes.get(VALUES) == {} and CONFIG not in notes,
        state=_status(trial),
        value=finite.get(best),
        best_epoch=best,
        epochs=trial.last_step or 0,
        values=dict(notes.get(VALUES, {})),
        curve=[trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)],
        metrics=[notes[CURVE + str(epoch)] for epoch in sorted(trial.intermediate_values)],
        seconds=notes.get(SECONDS),
        host=notes.get(HOST),
        error=_safe(notes.get(ERROR)),
        log=trial_log(trial.number),
        config=notes.get(CONFIG),
        figures={**{name: logged[name] for name in others if name in logged}, **notes.get(FIGURES, {})},
        is_feasible=is_feasible(trial),
    )


def _safe(error: str | None) -> str | None:
    """Return a trial's error for people: a journal may be another version's, or somebody else's."""
    return None if error is None else safe_text(str(error))


def _status(trial: FrozenTrial) -> TrialStatus:
    if is_infeasible(trial):
        return TrialStatus.INFEASIBLE
    # With several objectives Optuna has no PRUNED trials with values.
    stopped = trial.user_attrs.get(STOPPED)
    is_stopped = trial.state == TrialState.COMPLETE and stopped is not None and stopped == trial.last_step
    return TrialStatus.PRUNED if is_stopped else STATUS_OF[trial.state]


def values_after(study: optuna.Study, epoch: int, metric: str) -> dict[int, float]:
    """Return the values after an epoch of the trials that may be compared, by number.

    Left out are trials that cannot win, and trials that ran with another config.
    """
    return {
        trial.number: float(
            trial.user_attrs.get(CURVE + str(epoch), {}).get(metric, trial.intermediate_values[epoch])
        )
        for trial in study.get_trials(deepcopy=False)
        if epoch in trial.intermediate_values
        and trial.state != TrialState.FAIL
        and is_feasible(trial)
        and CONFIG not in trial.user_attrs
    }


def base_of(rows: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the base config's trial if it has a value, even if it cannot win."""
    return next(
        (r for r in rows if r.is_base and r.value is not None and r.state != TrialStatus.FAILED), None
    )


def rank(rows: Sequence[TrialRecord], direction: Direction) -> list[TrialRecord]:
    """Return the trials that can win, best first; of two equals the earlier one.

    They have a value, did not fail, and satisfy the constraints.
    """
    usable = [
        row for row in rows if row.value is not None and row.state != TrialStatus.FAILED and row.is_feasible
    ]
    return sorted(usable, key=lambda row: (-direction.sign * (row.value or 0.0), row.number))


def write_parquet(rows: Sequence[TrialRecord], path: Path, config: Config, **further: Sequence[Any]) -> None:
    """Write the table of trials (`trials_table`) to a Parquet file."""
    with atomic_write(path) as partial:
        pq.write_table(trials_table(rows, config, **further), partial)


def trials_table(rows: Sequence[TrialRecord], config: Config, **further: Sequence[Any]) -> pa.Table:
    """Make a table with one row for each trial.

    Each of the `values` and `figures` has a column, which is text if types are mixed. A key that a trial did
    not change has the config's value. Each metric has two columns: `metrics.NAME`, its value after the best
    epoch, and `curves.NAME`, its values after all epochs.

    Args:
        rows: the trials.
        config: the base config.
        further: more columns, by name, with a value for each row.
    """
    keys = sorted({key for row in rows for key in row.values})
    base = {key: config.get(key) for key in keys if config.has(key)}
    figures = sorted({name for row in rows for name in row.figures})
    metrics = sorted({name for row in rows for epoch in row.metrics for name in epoch} - {EPOCH})
    plain = [name.name for name in fields(TrialRecord) if name.name not in ("values", "figures", "metrics")]
    columns = {name: _column([getattr(row, name) for row in rows]) for name in plain}
    columns |= {name: _column([row.figures.get(name) for row in rows]) for name in figures}
    for key in keys:
        # What an earlier config held is not known here.
        columns[key] = _column([row.values.get(key, None if row.config else base.get(key)) for row in rows])
    for name in metrics:
        columns[f"metrics.{name}"] = pa.array([_at_best(row).get(name) for row in rows], pa.float64())
        curves = [[epoch.get(name) for epoch in row.metrics] for row in rows]
        columns[f"curves.{name}"] = pa.array(curves, pa.list_(pa.float64()))
    columns |= {name: _column(list(values)) for name, values in further.items()}
    return pa.table(columns)


def _at_best(row: TrialRecord) -> Mapping[str, float]:
    """Return what was logged in the trial's best epoch."""
    return next((epoch for epoch in row.metrics if epoch.get(EPOCH) == row.best_epoch), {})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
