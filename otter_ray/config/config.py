"""Config: a complete, valid configuration that knows where each of its keys was written."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import PrivateAttr

from otter_ray.config.lightning_cli import LIGHTNING, class_path_flaws, is_lightning_cli, without_fit_level
from otter_ray.config.lookup import find_config
from otter_ray.config.overrides import SET, Overrides, assign_overrides, parse_overrides
from otter_ray.config.paths import KeyPath, overlap, plain, read, split
from otter_ray.config.schema import Sections
from otter_ray.config.secret_values import secrets_in
from otter_ray.config.types import Flaw, Section, is_number, validate
from otter_ray.config.user_paths import path_flaws, with_homes
from otter_ray.config.yaml_reader import Origin, Place, read_document
from otter_ray.errors import ConfigError, Problem
from otter_ray.files import is_name
from otter_ray.formatting import short_repr

# They follow from the backbone and the image size; the run fills in -1.
DERIVED = ("model.head.options.in_dim", "model.head.options.feature_map_size")
DERIVED_FROM = ("model.backbone", "onnx.input_shape")
# What may change within a run. Anything else stays as a checkpoint has it, or cannot be loaded.
CHANGEABLE = "optimizer.options"
# Sections of a search space that people try to set.
SPACE_SECTIONS = ("parameters", "study", "resources")


class Config(Sections):
    """A configuration that obeys the schema. Treat it as immutable; `with_values` makes a changed copy.

    `load_config` and `Config.from_dict` make one, and check the rules between sections. Two configs are equal
    if their names and values are.
    """

    _origin: Origin = PrivateAttr(default_factory=Origin)
    _plain: dict[str, Any] | None = PrivateAttr(default=None)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str = "") -> Config:
        """Return the config that `to_dict` made a dict of. Raises ConfigError."""
        try:
            return cls._build(plain(data), Origin(name), [])
        except TypeError as exc:
            raise ConfigError([Problem("", str(exc))]) from exc

    @classmethod
    def _build(cls, data: dict[str, Any], origin: Origin, problems: Sequence[Problem]) -> Config:
        """Build a config. Raises ConfigError with `problems` and everything that is wrong with `data`."""
        data = with_homes(data)
        if problems_of_cli := [origin.problem(*flaw) for flaw in class_path_flaws(data)]:
            raise ConfigError([*problems, *problems_of_cli])
        project = LIGHTNING if is_lightning_cli(data) else str(data.get("project"))
        config, flaws = validate(PROJECT_CLASSES.get(project, Config), data)
        flaws += [*_sizes_that_differ(data), *secrets_in(data), *path_flaws(data)]
        found = [*problems, *(origin.problem(*flaw) for flaw in flaws)]
        if found or config is None:
            raise ConfigError(found)
        config._origin = origin
        if unfit := [origin.problem(*flaw) for flaw in _unfit_phases(config)]:
            raise ConfigError(unfit)
        return config

    @property
    def name(self) -> str:
        """The file's stem, `demo` for `configs/demo.yaml`."""
        return self._origin.name

    @property
    def data_section(self) -> Section:
        """The section that says which data are read."""
        return self.dataset

    @property
    def code(self) -> str:
        """The packages whose code runs, separated by commas."""
        return self.project

    def problem(self, key: str, message: str) -> Problem:
        """Return a Problem at a dotted key, with the line of the nearest key that was written in the file."""
        return self._origin.problem(tuple(key.split(".")), message)

    def get(self, key: str) -> Any:
        """Return the plain value at a dotted key, `callbacks.0.name`. Raises ConfigError if it is missing."""
        try:
            return copy.deepcopy(read(self._data(), split(key)))
        except LookupError as exc:
            raise ConfigError([self.problem(key, f"is not in the config: {exc.args[0]}")]) from exc

    def has(self, key: str) -> bool:
        """Return whether `get` would find a value."""
        try:
            read(self._data(), split(key))
        except LookupError:
            return False
        return True

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """Return a checked copy with these dotted keys changed, by the rules of `--set`. Raises ConfigError.

        If the backbone or the image size changes, the head's `in_dim` and `feature_map_size` become -1 unless
        they are among `values`: the run then fills them in.
        """
        return self._changed({**values, **self._derived(values)}, Place(), [])

    def during(self, epoch: int) -> Config:
        """Return the config that applies in an epoch, counted from 1; it has no `schedule`."""
        phase = next((phase for phase in self.schedule or () if epoch <= phase.epochs), None)
        return self.with_values({**(phase.values if phase else {}), "schedule": None})

    def with_sets(self, sets: Overrides) -> Config:
        """Return a checked copy with these changes, which errors name `--set`. Raises ConfigError."""
        values, malformed = parse_overrides(sets, SET, _of_the_space)
        return self._changed(values, Place(SET), malformed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that YAML can hold, with defaults; `from_dict` reads it back."""
        return self.model_dump()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return self.name == other.name and self._data() == other._data()

    __hash__ = None  # type: ignore[assignment]

    def _data(self) -> dict[str, Any]:
        """Return what `to_dict` returns, made once: nobody may change it."""
        if self._plain is None:
            self._plain = self.to_dict()
        return self._plain

    def _changed(self, values: Mapping[str, Any], place: Place, problems: list[Problem]) -> Config:
        data, origin, refused = assign_overrides(self._data(), self._origin, values, place)
        return self._build(data, origin, [*problems, *refused])

    def _derived(self, values: Mapping[str, Any]) -> dict[str, int]:
        if not any(_moves_derived(key) for key in values):
            return {}
        return {
            key: -1 for key in DERIVED if self.has(key) and not any(overlap(key, given) for given in values)
        }


# Project -> the class of its configs, if they have sections of their own.
PROJECT_CLASSES: dict[str, type[Config]] = {}


def project_here(name: object) -> str | None:
    """Return the code of `./configs/NAME.yaml`, which the user has written; None without such a config.

    Args:
        name: A config's name, from a file that anybody may have written.
    """
    if not isinstance(name, str) or not is_name(name):
        return None
    try:
        return load_config(f"./configs/{name}.yaml").code
    except ConfigError:
        return None


def load_config(name_or_path: str, sets: Overrides = (), name: str | None = None) -> Config:
    """Load the config of that name or path, changed by `key=value` texts or by dotted keys and values.

    Args:
        name_or_path: As `find_config` takes it.
        sets: The changes.
        name: What the config is called; None for the file's stem.

    Raises:
        ConfigError: Every problem of the file and of the sets at once.
    """
    data, origin = without_fit_level(*read_document(find_config(name_or_path)))
    origin = origin if name is None else replace(origin, name=name)
    values, malformed = parse_overrides(sets, SET, _of_the_space)
    data, origin, refused = assign_overrides(data, origin, values, Place(SET))
    return Config._build(data, origin, [*malformed, *refused])


def _of_the_space(key: str) -> str | None:
    """Say that a key is one of the search space, if it is."""
    section = key.partition(".")[0]
    if section not in SPACE_SECTIONS:
        return None
    right = f"study.{key}" if section == "resources" else key
    return f"is a key of the search space, and --set changes the config. Use --set-space {right}=VALUE."


def _moves_derived(key: str) -> bool:
    return "image_size" in key.split(".") or any(overlap(key, other) for other in DERIVED_FROM)


def _sizes_that_differ(data: Mapping[str, Any]) -> list[Flaw]:
    """Return one flaw that lists every key with an image size, if the sizes do not agree."""
    sizes = {key: read(data, key) for key in _size_keys(data)}
    known = {tuple(size[-2:]) for size in sizes.values() if min(size[-2:]) > 0}
    if len(known) < 2:
        return []
    values = ", ".join(f"{'.'.join(key)} is {size}" for key, size in sizes.items())
    return [(next(iter(sizes)), f"the image sizes do not agree: {values}. Make them the same.")]


def _size_keys(data: Mapping[str, Any]) -> list[KeyPath]:
    keys: list[KeyPath] = [("common", "image_size"), ("global_settings", "image_size")]
    inputs = _find(data, ("onnx", "input_shape"))
    if isinstance(inputs, dict):
        keys += [("onnx", "input_shape", name, "shape") for name in inputs]
    lengths = {key: 4 if key[0] == "onnx" else 2 for key in keys}
    return [key for key in keys if _is_size(_find(data, key), lengths[key])]


def _unfit_phases(config: Config) -> Iterator[Flaw]:
    """Yield what is wrong with the schedule of a config that is valid without it."""
    before, most = 0, config.trainer.max_epochs
    for index, phase in enumerate(config.schedule or ()):
        path = ("schedule", str(index))
        if not before < phase.epochs < most:
            rule = f"must be above {before} (the phase before) and below {most} (the run's epochs)"
            yield (*path, "epochs"), f"is {phase.epochs} but {rule}. Correct it, or remove the phase."
        before = max(before, phase.epochs)
        for key, value in phase.values.items():
            place = (*path, "values", key)
            if split(key)[:2] != split(CHANGEABLE) or not config.has(key):
                yield (
                    place,
                    f"is not a key below {CHANGEABLE}, and nothing else can change within a run. Remove it.",
                )
                continue
            own = config.get(key)
            # A schedule's rates are changed by a factor.
            if key == f"{CHANGEABLE}.lr" and not all(is_number(rate) and rate > 0 for rate in (value, own)):
                yield place, f"{short_repr(value)} would become {short_repr(own)}. Give two numbers > 0."
            elif not (is_number(value) and is_number(own)):
                change = f"{short_repr(value)} would become {short_repr(own)}"
                yield place, f"{change}. Only numbers can change within a run."


def _find(data: Any, path: KeyPath) -> Any:
    try:
        return read(data, path)
    except LookupError:
        return None


def _is_size(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(type(item) is int for item in value)
