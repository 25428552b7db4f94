"""A study's trials as plain rows, from its Optuna study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        number: from 0.
        is_base: whether it is the base config as it stands.
        state: complete, pruned, failed, running or waiting.
        value: best value of the metric over the epochs, None without any.
        best_epoch, epochs: the epoch of that value, and the last one done; from 1, 0 for none.
        values: dotted keys that the trial changed in the base config.
        curve: the metric by epoch, from the first.
        metrics: everything that was logged, one mapping an epoch.
        seconds, host: of its training, and where.
        error: why it failed.
    """

    number: int
    is_base: bool
    state: str
    value: float | None
    best_epoch: int
    epochs: int
    values: dict[str, Any]
    curve: list[float]
    metrics: list[dict[str, float]]
    seconds: float | None
    host: str | None
    error: str | None


def open_journal(path: Path) -> JournalStorage:
    """The Optuna storage in a journal file. Optuna's own log is kept quiet."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(path)))


def read_rows(study: optuna.Study) -> list[TrialRow]:
    """All trials of the study, by number."""
    maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return [_row(trial, maximize) for trial in study.get_trials(deepcopy=False)]


def _row(trial: FrozenTrial, maximize: bool) -> TrialRow:
    finite = {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
    best = (max if maximize else min)(finite, key=lambda epoch: finite[epoch]) if finite else 0
    notes = trial.user_attrs
    return TrialRow(
        number=trial.number,
        is_base=notes.get("values") == {},
        state=STATES[trial.state],
        value=finite.get(best),
        best_epoch=best,
        epochs=trial.last_step or 0,
        values=dict(notes.get("values", {})),
        curve=[trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)],
        metrics=list(notes.get("curve", [])),
        seconds=notes.get("seconds"),
        host=notes.get("host"),
        error=notes.get("error"),
    )


def rank(rows: Sequence[TrialRow], mode: str) -> list[TrialRow]:
    """The rows that have a value and did not fail, best first; the earlier of two equals first."""
    usable = [row for row in rows if row.value is not None and row.state in ("complete", "pruned")]
    sign = -1.0 if mode == "max" else 1.0
    return sorted(usable, key=lambda row: (sign * (row.value or 0.0), row.number))


def write_parquet(rows: Sequence[TrialRow], path: Path) -> None:
    """One row a trial; `values` becomes a column for each key, in text where types are mixed."""
    keys = sorted({key for row in rows for key in row.values})
    records = []
    for row in rows:
        record = asdict(row)
        values = record.pop("values")
        record["metrics"] = [sorted(epoch.items()) for epoch in record["metrics"]]
        records.append(record | {key: values.get(key) for key in keys})
    metrics = pa.list_(pa.map_(pa.string(), pa.float64()))
    columns = {
        name: _column([record[name] for record in records], metrics if name == "metrics" else None)
        for name in (records[0] if records else {})
    }
    partial = path.with_suffix(".partial")
    pq.write_table(pa.table(columns), partial)
    partial.replace(path)


def _column(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
