"""The migration of a study to a changed config or search space.

Optuna takes a categorical's choices as they were first given. A study in another space is therefore a second
one in the same journal, which only grows. It has every trial, under its number.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from otter_ray.checkpoints import BEST_CHECKPOINT, LAST_CHECKPOINT
from otter_ray.config import Config
from otter_ray.errors import StudyError
from otter_ray.files import atomic_write, read_bytes
from otter_ray.space import SearchProblem, Space
from otter_ray.study.diff import Changes, record
from otter_ray.study.distributions import to_distribution
from otter_ray.study.initial_trials import enqueue_base
from otter_ray.study.journal import mark_created
from otter_ray.study.layout import CHANGES_FILE, StudyFolder, trial_checkpoint
from otter_ray.study.opening import base_config_of
from otter_ray.study.optuna_compat import storage_behind
from otter_ray.study.outcomes import ENDED
from otter_ray.study.schema import (
    BASE,
    CONFIG,
    CONSTRAINT,
    CURVE,
    ERROR,
    FIGURES,
    FIXED,
    OBJECTIVES,
    ORIGIN,
    REPLACED,
    STOPPED,
    VALUES,
)
from otter_ray.study.storage import Storage, delete_everywhere
from otter_ray.study.trials import objectives_of


def migrate(
    folder: StudyFolder,
    study: optuna.Study,
    changes: Changes,
    problem: SearchProblem,
    storage: Storage | None = None,
    again: Collection[int] = (),
) -> optuna.Study:
    """Migrate the study to the new config and space, and return the study to go on with.

    Trials that have ended stay as they are. If the config changed, interrupted trials and the base config's
    trial start from scratch. After a crash in between, the next command repeats all of it.

    Args:
        folder: the study's.
        study: the one so far.
        changes: what changed.
        problem: what the study goes on with.
        storage: of the study's copy, if there is one.
        again: numbers of trials that have ended and are to run once more.
    """
    earlier = _keep_earlier(folder) if changes.config else None
    if earlier:
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            _remove_checkpoints(folder, storage, trial.number)
    journal = storage_behind(study)
    names = optuna.get_all_study_names(journal)
    successor = optuna.create_study(
        storage=journal,
        study_name=f"{names[0]} ({len(names) + 1})",
        directions=study.directions,
        sampler=study.sampler,
    )

    def base_of(trial: FrozenTrial) -> Config:
        begins_anew = earlier and trial.state not in ENDED
        if begins_anew:
            return problem.config
        return base_config_of(folder, trial.user_attrs.get(CONFIG), changes.began)

    trials = [_revived(trial) if trial.number in again else trial for trial in study.get_trials()]
    migrated = [_migrated(trial, base_of(trial), problem.space, earlier) for trial in trials]
    successor.add_trials(migrated)
    if not any(trial.user_attrs.get(VALUES) == BASE and CONFIG not in trial.user_attrs for trial in migrated):
        enqueue_base(successor, problem)
    if others := objectives_of(study):
        successor.set_user_attr(OBJECTIVES, others)
    mark_created(successor, problem.options.metric)
    if changes:
        _note(folder, changes, len(migrated))
    record(folder, problem)  # last: until then the next command repeats all of it
    return successor


def _note(folder: StudyFolder, changes: Changes, trials: int) -> None:
    """Add the changes to `changes.txt`, unless a command that was killed has done so."""
    file = folder.path / CHANGES_FILE
    noted = read_bytes(file, "Move it away.") or b""
    entry = f", after {trials} trials\n{changes}\n"
    if not noted.endswith(entry.encode()):
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with atomic_write(file) as partial:
            partial.write_bytes(noted + f"{now}{entry}".encode())


def _keep_earlier(folder: StudyFolder) -> str:
    """Keep the config so far under a name of its own, and return that name."""
    now = folder.config_file.read_bytes()
    found = (re.fullmatch(r"config\.(\d+)\.yaml", path.name) for path in folder.path.iterdir())
    newest = max((int(match[1]) for match in found if match), default=0)
    if newest and (folder.path / f"config.{newest}.yaml").read_bytes() == now:
        return f"config.{newest}.yaml"
    name = f"config.{newest + 1}.yaml"
    with atomic_write(folder.path / name) as partial:
        partial.write_bytes(now)
    return name


def _remove_checkpoints(folder: StudyFolder, storage: Storage | None, number: int) -> None:
    for name in (LAST_CHECKPOINT, BEST_CHECKPOINT):
        place = trial_checkpoint(number, name)
        try:
            delete_everywhere(place, folder, storage)
        except OSError as exc:
            raise StudyError(f"{place} of study {folder.name} cannot be deleted: {exc}") from exc


def _revived(trial: FrozenTrial) -> FrozenTrial:
    """Make an ended trial an interrupted one."""
    trial.state, trial.datetime_complete = TrialState.RUNNING, None
    trial.user_attrs = {key: value for key, value in trial.user_attrs.items() if key != ERROR}
    return trial


def _migrated(trial: FrozenTrial, base: Config, space: Space, earlier: str | None) -> FrozenTrial:
    """Return a trial with as much of it as the new space can express.

    Args:
        trial: of the study so far.
        base: the config that its values change.
        space: the new one.
        earlier: if the config changed, the file of the earlier one: an ended trial keeps it as its `config`,
            any other trial starts from scratch.
    """
    if earlier and ORIGIN in trial.user_attrs and trial.state not in ENDED:
        # Where it was to begin belongs to another config: it is trained from its own start.
        notes = {key: trial.user_attrs[key] for key in trial.user_attrs if key not in (ORIGIN, VALUES)}
        trial.user_attrs, trial.state, trial.datetime_start = notes, TrialState.WAITING, None
        trial.system_attrs = {**trial.system_attrs, FIXED: trial.params or trial.system_attrs.get(FIXED, {})}
        trial.intermediate_values = {}
    values: dict[str, Any] | None = trial.user_attrs.get(VALUES)
    if values is None or trial.state == TrialState.WAITING:
        wanted = space.base_values(base) if values == BASE else trial.system_attrs.get(FIXED, {})
        known = {name: wanted[name] for name in wanted if space.allows(name, wanted[name])}
        trial.params, trial.distributions = {}, {}
        trial.system_attrs = {**trial.system_attrs, FIXED: known}
        return trial
    trial.params = space.base_values(base.with_values(values))
    trial.distributions = {p.name: to_distribution(p) for p in space.parameters if p.name in trial.params}
    if earlier and trial.state in ENDED:
        trial.user_attrs = {CONFIG: earlier, **trial.user_attrs}
    elif earlier:
        trial.intermediate_values = {}
        trial.user_attrs = {key: trial.user_attrs[key] for key in trial.user_attrs if not _is_done(key)}
        # Another config's model has other statistics.
        known = trial.system_attrs
        trial.system_attrs = {key: known[key] for key in known if not key.startswith(CONSTRAINT)}
    return trial


def _is_done(key: str) -> bool:
    return key.startswith(CURVE) or key in (STOPPED, REPLACED, FIGURES)
