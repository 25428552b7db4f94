"""The keys of data sets' options in a config, and the rules that they obey."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from otter_ray.errors import DataError, did_you_mean


def option_key(option: str, part: str) -> str:
    """Return the key of an option of the `train`, the `valid` or the `test` data set in a config."""
    return f"dataset.{part}_options.options.{option}"


def require(holds: bool, option: str, value: object, rule: str, part: str) -> None:
    """Raise DataError if an option does not obey its rule."""
    if not holds:
        raise DataError(f"{option_key(option, part)} is {value!r} but must be {rule}.")


def require_choice(value: str, choices: Collection[str], option: str, part: str) -> None:
    """Raise DataError if an option is none of its choices."""
    if value not in choices:
        raise DataError(
            f"{option_key(option, part)} is {value!r} but must be one of {', '.join(choices)}."
            f"{did_you_mean(str(value), choices)}"
        )


def require_one_source(root: str | None, drawn: int, part: str) -> None:
    """Raise DataError unless documents come from a folder or are drawn, and not both."""
    if (root is None) == (drawn <= 0):
        given = "neither is given" if root is None else f"both are given ({root!r} and {drawn})"
        raise DataError(
            f"Set exactly one of {option_key('root', part)} (a folder) and {option_key('drawn', part)} (a "
            f"number of documents): {given}."
        )


def pair(image_size: Sequence[int]) -> tuple[int, int]:
    """Return (h, w) of what YAML wrote as a list."""
    height, width = image_size
    return int(height), int(width)
