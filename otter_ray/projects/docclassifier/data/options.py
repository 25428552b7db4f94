"""The keys of data sets' options in a config, and the rules that they obey."""

from __future__ import annotations

from collections.abc import Collection

from otter_ray.errors import DataError, did_you_mean


def option_key(option: str, part: str) -> str:
    """Return the key of an option of the `train`, the `valid` or the `test` data set in a config."""
    return f"dataset.{part}_options.options.{option}"


def require(holds: bool, option: str, value: float, rule: str, part: str = "valid") -> None:
    """Raise DataError if an option does not obey its rule."""
    if not holds:
        raise DataError(f"{option_key(option, part)} is {value} but must be {rule}.")


def require_choice(value: str, choices: Collection[str], option: str, part: str) -> None:
    """Raise DataError if an option is none of its choices."""
    if value not in choices:
        raise DataError(
            f"{option_key(option, part)} is {value!r} but must be one of {', '.join(choices)}."
            f"{did_you_mean(str(value), choices)}"
        )
