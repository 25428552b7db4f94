"""The rules that options of data sets obey."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from otter_ray.errors import DataError, did_you_mean
from otter_ray.projects.mrzscanner.text.icao import Format, formats_named

_CHARACTER, _ROW = 5, 8  # pixels of a crop below which nobody can read


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raise DataError if an option of a data set does not obey its rule."""
    if not holds:
        raise DataError(f"{option_key(name)} is {value!r} but must be {rule}.")


def require_choice(value: str, choices: Collection[str], name: str) -> None:
    """Raise DataError if an option is none of its choices."""
    near = did_you_mean(str(value), choices)
    require(
        value in choices, name, value, f"one of {', '.join(choices)}" + (f" ({near.strip()})" if near else "")
    )


def option_key(name: str) -> str:
    """Return the key of an option in a config. Data sets do not know which of the three they are."""
    return f"dataset.*.options.{name}"


def chosen_formats(names: Sequence[str]) -> list[Format]:
    """Return the formats that an option `formats` names."""
    return formats_named(names, option_key("formats"))


def require_readable(image_size: tuple[int, int], formats: Sequence[Format]) -> None:
    """Raise DataError if a crop is too small to read a zone of one of the formats."""
    height = max(form.lines for form in formats) * _ROW
    width = max(form.columns for form in formats) * _CHARACTER
    if image_size[0] < height or image_size[1] < width:
        names = ", ".join(form.name for form in formats)
        raise DataError(
            f"common.image_size is {list(image_size)}, but zones of {names} need at least {_ROW} px a line "
            f"and {_CHARACTER} px a character. Set it to at least [{height}, {width}]."
        )
