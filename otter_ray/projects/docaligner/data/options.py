"""The keys of data sets' options in a config, and the rules that they obey."""

from __future__ import annotations

from otter_ray.errors import DataError


def option_key(option: str, part: str) -> str:
    """Return the key of an option of the `train`, the `valid` or the `test` data set in a config."""
    return f"dataset.{part}_options.options.{option}"


def require(holds: bool, option: str, value: object, rule: str, part: str) -> None:
    """Raise DataError if an option does not obey its rule."""
    if not holds:
        raise DataError(f"{option_key(option, part)} is {value} but must be {rule}.")
