"""The names of trials in Ray's dashboard, in logs and in a list of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otter_ray.study.layout import FINALS, trial_log
from otter_ray.study.schema import BASE, SCHEDULE


@dataclass(frozen=True)
class StudyNames:
    """What a study and its trials are called.

    Attributes:
        title: Of the study.
        labels: Of trials that are not called by their number.
        prefix: Of the trials' folders, relative to the folder that the user knows.
    """

    title: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)
    prefix: str = ""

    def trial(self, number: int) -> str:
        """Name a trial."""
        return self.labels.get(number, str(number))

    def log(self, number: int) -> str:
        """Return the path of a trial's log, in the folder that the user knows."""
        return f"{self.prefix}{trial_log(number)}"


UNNAMED = StudyNames()


def group_name(config: str, study: Path) -> str:
    """Name a study's runs together, as loggers group them: `demo/STUDY`, or `demo/STUDY/finals`."""
    name = f"{study.parent.name}/{study.name}" if study.name == FINALS else study.name
    return f"{config}/{name}"


def trial_name(config: str, number: int, values: Mapping[str, Any]) -> str:
    """Name a trial: `demo/0007 lr=0.00565 s=12`."""
    return f"{config}/{number:04d} {changes_of(values)}"


def changes_of(values: Mapping[str, Any]) -> str:
    """List what a trial changes: `lr=0.00565 s=12`, or `base`. Keys that one parameter sets appear once."""
    changes = {key: value for key, value in values.items() if key != SCHEDULE}
    labels = key_labels([changes])
    words = dict.fromkeys(f"{labels[key]}={_value(value)}" for key, value in changes.items())
    return "base" if changes == BASE else " ".join(words)


def key_labels(trials: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Map each key to its shortest end that no key ends with that has another value: `lr`, `loss.name`.

    Args:
        trials: the values of each trial, by dotted key. Two keys that never differ are set by one parameter.
    """
    keys = list(dict.fromkeys(key for values in trials for key in values))
    words = {key: [part for part in key.split(".") if part != "options"] or [key] for key in keys}
    alike: dict[str, list[str]] = {}
    for key in keys:
        alike.setdefault(words[key][-1], []).append(key)

    def label(key: str) -> str:
        own = words[key]
        others = [words[other] for other in alike[own[-1]] if _differ(key, other, trials)]
        ends = (own[-length:] for length in range(1, len(own) + 1))
        return ".".join(next((end for end in ends if all(o[-len(end) :] != end for o in others)), own))

    return {key: label(key) for key in keys}


def _differ(key: str, other: str, trials: Sequence[Mapping[str, Any]]) -> bool:
    return key != other and any(
        key in values and other in values and values[key] != values[other] for values in trials
    )


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
