"""A study's trials as plain rows, from its Optuna study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from otter_ray.files import written_whole

# Kept of a trial for each of its epochs, with the epoch's number: everything that was logged.
CURVE = "curve/"
# Kept of a trial that ran before the study's config was changed: the file, in the study's folder, of what it
# ran with.
CONFIG = "config"
# Kept of a trial before it is trained: those figures of its model that an objective or a constraint asks for.
FIGURES = "figures"
# Kept of a study that is whole: what it is about. Before that, its other objectives, {name: mode}.
METRIC, OBJECTIVES = "metric", "objectives"
# Kept of a study that was exported: why candidates better than the winner, or all of them, gave no model.
REJECTED = "rejected"
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        number: from 0.
        is_base: whether it is the base config as it stands.
        state: complete, pruned, failed, unfinished (running, or broken off), waiting, or infeasible (its
            model violates a constraint, and nothing was trained).
        value: best value of the metric over the epochs, None without any.
        best_epoch, epochs: the epoch of that value, and the last one done; from 1, 0 for none.
        values: dotted keys that the trial changed in the base config.
        curve: the metric by epoch, from the first.
        metrics: everything that was logged, one mapping an epoch.
        seconds, host: of its training, and where.
        error: why it failed.
        log: of its training, in the study's folder.
        config: what `values` change where the study's config is another by now: a file in the study's folder.
        figures: of its model, by name, and the other objectives that are logged, of `best_epoch`.
        is_feasible: whether it satisfies the constraints; the base config is trained even if it does not.
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
    log: str
    config: str | None
    figures: dict[str, float] = field(default_factory=dict)
    is_feasible: bool = True

    @property
    def has_ended(self) -> bool:
        """Whether it was trained, and nothing of it is to come."""
        return self.state not in ("unfinished", "waiting", "infeasible")


def open_journal(path: Path, backend: type[JournalFileBackend] = JournalFileBackend) -> JournalStorage:
    """The Optuna storage in a journal file. Optuna's own log is kept quiet."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(backend(str(path)))


def newest_study(storage: JournalStorage) -> optuna.Study | None:
    """The study in a journal: the newest one that is whole, where it was carried over into others."""
    whole = [study for study in storage.get_all_studies() if METRIC in study.user_attrs]
    return optuna.load_study(study_name=whole[-1].study_name, storage=storage) if whole else None


def read_rows(study: optuna.Study) -> list[TrialRow]:
    """All trials of the study, by number."""
    maximize, others = mode_of(study) == "max", objectives_of(study)
    return [trial_row(trial, maximize, others) for trial in study.get_trials(deepcopy=False)]


def read_row(study: optuna.Study, number: int) -> TrialRow:
    """One trial of the study: unlike `read_rows` as quick in a long study as in a short one."""
    return trial_row(read_trial(study, number), mode_of(study) == "max", objectives_of(study))


def read_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """What the study's storage holds of one trial."""
    storage = study._storage
    return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def mode_of(study: optuna.Study) -> Literal["max", "min"]:
    """`max` or `min`, of the metric: the first objective."""
    return "max" if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else "min"


def objectives_of(study: optuna.Study) -> dict[str, str]:
    """The study's objectives beside its metric: name -> `max` or `min`."""
    return dict(study.user_attrs.get(OBJECTIVES, {}))


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether it satisfies the constraints, as far as they have been told."""
    return all(excess <= 0 for excess in trial.constraints.values())


def is_infeasible(trial: FrozenTrial) -> bool:
    """Whether it was told PRUNED untrained, for a constraint; whom ASHA stops has a value."""
    return not (is_feasible(trial) or trial.intermediate_values) and trial.state == TrialState.PRUNED


def trial_row(trial: FrozenTrial, maximize: bool, others: Mapping[str, str]) -> TrialRow:
    """One trial of a study with these `others` among its objectives."""
    finite = {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
    best = (max if maximize else min)(finite, key=lambda epoch: finite[epoch]) if finite else 0
    notes = trial.user_attrs
    logged = notes.get(CURVE + str(best), {})
    return TrialRow(
        number=trial.number,
        is_base=notes.get("values") == {} and CONFIG not in notes,
        state=_state(trial),
        value=finite.get(best),
        best_epoch=best,
        epochs=trial.last_step or 0,
        values=dict(notes.get("values", {})),
        curve=[trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)],
        metrics=[notes[CURVE + str(epoch)] for epoch in sorted(trial.intermediate_values)],
        seconds=notes.get("seconds"),
        host=notes.get("host"),
        error=notes.get("error"),
        log=f"trials/{trial.number:04d}/log.txt",
        config=notes.get(CONFIG),
        figures={**{name: logged[name] for name in others if name in logged}, **notes.get(FIGURES, {})},
        is_feasible=is_feasible(trial),
    )


def _state(trial: FrozenTrial) -> str:
    if is_infeasible(trial):
        return "infeasible"
    # With several objectives Optuna has no PRUNED trials with values.
    stopped = trial.user_attrs.get("stopped")
    is_stopped = trial.state == TrialState.COMPLETE and stopped is not None and stopped == trial.last_step
    return "pruned" if is_stopped else STATES[trial.state]


def base_of(rows: Sequence[TrialRow]) -> TrialRow | None:
    """The base config's row, where it has a value: also one that cannot win."""
    return next((r for r in rows if r.is_base and r.value is not None and r.state != "failed"), None)


def rank(rows: Sequence[TrialRow], mode: str) -> list[TrialRow]:
    """The rows that can win, best first; the earlier of two equals first.

    They have a value, did not fail, and satisfy the constraints.
    """
    usable = [row for row in rows if row.value is not None and row.state != "failed" and row.is_feasible]
    sign = -1.0 if mode == "max" else 1.0
    return sorted(usable, key=lambda row: (sign * (row.value or 0.0), row.number))


def write_parquet(rows: Sequence[TrialRow], path: Path, **further: Sequence[Any]) -> None:
    """One row a trial; `values` and `figures` become a column for each key, in text where types are mixed.

    Args:
        further: columns, by name, with a value for each row.
    """
    keys = sorted({key for row in rows for key in {**row.figures, **row.values}})
    records = []
    for row in rows:
        record = asdict(row)
        values = {**record.pop("figures"), **record.pop("values")}
        record["metrics"] = [sorted(epoch.items()) for epoch in record["metrics"]]
        records.append(record | {key: values.get(key) for key in keys})
    metrics = pa.list_(pa.map_(pa.string(), pa.float64()))
    columns = {
        name: _column([record[name] for record in records], metrics if name == "metrics" else None)
        for name in (records[0] if records else {})
    }
    columns |= {name: _column(list(values), None) for name, values in further.items()}
    with written_whole(path) as partial:
        pq.write_table(pa.table(columns), partial)


def _column(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
