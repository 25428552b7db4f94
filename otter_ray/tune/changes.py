"""What has changed since a study began, and how its trials are carried over.

Optuna takes a categorical's choices as they were first given, so a study in another space is a second one
in the same journal, which only grows. Every trial is in it, under its number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from otter_ray.config import (
    Config,
    Parameter,
    Space,
    StudyOptions,
    load_config,
    load_space,
    space_to_yaml,
    to_yaml,
)
from otter_ray.errors import StudyError
from otter_ray.files import written_whole
from otter_ray.report.rows import CONFIG, CURVE, FIGURES, METRIC, OBJECTIVES, objectives_of
from otter_ray.tune.distributions import to_distribution
from otter_ray.tune.endings import ENDED
from otter_ray.tune.first import enqueue_base
from otter_ray.tune.folder import CONFIG_FILE, SPACE_FILE, StudyFolder, config_of
from otter_ray.tune.keys import BASE, ERROR, FIXED, ORIGIN, REPLACED, STOPPED, VALUES
from otter_ray.tune.storage import TRIALS, Storage

# Of a space's `study:`, what only says how long the search goes on, and on what.
FREE = {"num_trials", "resources", "retries", "keep_best", "finalists"}
CONSTRAINT = "constraints:"  # the prefix of what constraints say of a trial, in Optuna's attributes


@dataclass(frozen=True)
class Change:
    """One difference; `is_harmless` where it only lets the search go further."""

    key: str
    then: str
    now: str
    is_harmless: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.then} -> {self.now}"


@dataclass(frozen=True)
class Changes:
    """What a study is to go on with, held against what it began with.

    Attributes:
        began: the config that it began with.
        config, space: the differences.
    """

    began: Config
    config: tuple[Change, ...] = ()
    space: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.config or self.space)

    def __str__(self) -> str:
        listed = {"config": self.config, "space": self.space}
        return "\n".join(f"  {what}  {change}" for what, found in listed.items() for change in found)

    @property
    def are_harmless(self) -> bool:
        """Whether nobody has to be asked."""
        return not self.config and all(change.is_harmless for change in self.space)


def agree(folder: StudyFolder, config: Config, space: Space, accept: bool = False) -> Changes:
    """Keeps config and space in a new study's folder; gives what has changed since, in a resumed one's.

    Args:
        accept: changes that make what is done and what comes hard to compare, too.

    Raises:
        StudyError: there are such changes, and nobody accepts them; lists them.
    """
    if not (folder.path / SPACE_FILE).exists():
        _keep(folder, config, space)
        return Changes(config)
    changes = _changes(folder, config, space)
    if not (changes.are_harmless or accept):
        raise StudyError(
            f"study {folder.name} began otherwise (then -> now):\n{changes}\n"
            "Undo the changes, or start a study with another --name, from the best of this one with "
            f"--warm-start {folder.name}. With --accept-changes this one goes on, its trials as they are."
        )
    return changes


def carry_over(
    folder: StudyFolder,
    study: optuna.Study,
    changes: Changes,
    config: Config,
    space: Space,
    storage: Storage | None = None,
    again: Collection[int] = (),
) -> optuna.Study:
    """Makes the study one of the new config and space; gives the one to go on with.

    Trials that have ended stay as they are, but for those that are to be tried `again`. Under another config,
    those that were broken off begin anew, and so does the base. Killed in between, it is done again by the
    next command.
    """
    earlier = _keep_earlier(folder) if changes.config else None
    if earlier:
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            _remove_checkpoints(folder, storage, trial.number)
    names = optuna.get_all_study_names(study._storage)
    successor = optuna.create_study(
        storage=study._storage,
        study_name=f"{names[0]} ({len(names) + 1})",
        directions=study.directions,
        sampler=study.sampler,
    )

    def base_of(trial: FrozenTrial) -> Config:
        begins_anew = earlier and trial.state not in ENDED
        return config if begins_anew else config_of(folder, trial.user_attrs.get(CONFIG), changes.began)

    trials = [_revived(trial) if trial.number in again else trial for trial in study.get_trials()]
    carried = [_carried(trial, base_of(trial), space, earlier) for trial in trials]
    successor.add_trials(carried)
    if not any(trial.user_attrs.get(VALUES) == BASE and CONFIG not in trial.user_attrs for trial in carried):
        enqueue_base(successor, config, space)
    if others := objectives_of(study):
        successor.set_user_attr(OBJECTIVES, others)
    successor.set_user_attr(METRIC, space.study.metric)
    _keep(folder, config, space)
    if not changes:
        return successor
    with (folder.path / "changes.txt").open("a") as file:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        file.write(f"{now}, after {len(carried)} trials\n{changes}\n")
    return successor


def _changes(folder: StudyFolder, config: Config, space: Space) -> Changes:
    began, searched = load_config(str(folder.path / CONFIG_FILE)), load_space(str(folder.path / SPACE_FILE))
    then, now = searched.study, space.study
    if (about := _about(then)) != _about(now):
        raise StudyError(
            f"study {folder.name} is about {about}, not {_about(now)}: their "
            "values cannot be compared. Start a study with another --name, from the best of this one with "
            f"--warm-start {folder.name}."
        )
    differences = _differences(then.model_dump(exclude=FREE), now.model_dump(exclude=FREE), "study.")
    return Changes(
        began,
        tuple(_differences(began.to_dict(), config.to_dict())),
        (*_parameter_changes(searched, space), *differences),
    )


def _about(options: StudyOptions) -> str:
    objectives = {options.metric: options.mode, **options.objectives}
    named = ", ".join(f"{name} ({mode})" for name, mode in objectives.items())
    return named + (f" under {', '.join(options.constraints)}" if options.constraints else "")


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    for key in {**then, **now}:
        one, other = then.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other or (key in then) != (key in now):
            old, new = (str(part[key]) if key in part else "-" for part in (then, now))
            yield Change(prefix + key, old, new)


def _parameter_changes(then: Space, now: Space) -> Iterator[Change]:
    """Wider is harmless: what was searched is searched on, and what is done stays within it."""
    before, after = ({p.name: replace(p, file=None, line=None) for p in s.parameters} for s in (then, now))
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old != new:
            is_wider = old is None or (new is not None and new.covers(old))
            yield Change(name, _range(old), _range(new), is_wider)


def _range(parameter: Parameter | None) -> str:
    return str(parameter).removeprefix(f"{parameter.name}: ") if parameter else "-"


def _keep(folder: StudyFolder, config: Config, space: Space) -> None:
    for name, text in ((CONFIG_FILE, to_yaml(config)), (SPACE_FILE, space_to_yaml(space))):
        with written_whole(folder.path / name) as partial:
            partial.write_text(text)


def _keep_earlier(folder: StudyFolder) -> str:
    """Keeps the config so far under a name of its own, which is given."""
    now = (folder.path / CONFIG_FILE).read_bytes()
    kept = sorted(folder.path.glob("config.*.yaml"), key=lambda path: int(path.suffixes[0][1:]))
    if kept and kept[-1].read_bytes() == now:
        return kept[-1].name
    name = f"config.{len(kept) + 1}.yaml"
    with written_whole(folder.path / name) as partial:
        partial.write_bytes(now)
    return name


def _remove_checkpoints(folder: StudyFolder, storage: Storage | None, number: int) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        place = f"{TRIALS}/{number:04d}/checkpoints/{name}"
        try:
            folder.delete(place, storage)
        except OSError as exc:
            raise StudyError(f"{place} of study {folder.name} cannot be deleted: {exc}") from exc


def _revived(trial: FrozenTrial) -> FrozenTrial:
    """The trial as one that was broken off."""
    trial.state, trial.datetime_complete = TrialState.RUNNING, None
    trial.user_attrs = {key: value for key, value in trial.user_attrs.items() if key != ERROR}
    return trial


def _carried(trial: FrozenTrial, base: Config, space: Space, earlier: str | None) -> FrozenTrial:
    """The trial with as much of it as the space can express; under another config marked, or begun anew."""
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
        # Another config's model has other figures.
        known = trial.system_attrs
        trial.system_attrs = {key: known[key] for key in known if not key.startswith(CONSTRAINT)}
    return trial


def _is_done(key: str) -> bool:
    return key.startswith(CURVE) or key in (STOPPED, REPLACED, FIGURES)
