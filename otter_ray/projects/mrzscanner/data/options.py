"""The rules that options of data sets of zones obey, in addition to those of all data sets."""

from __future__ import annotations

from collections.abc import Sequence

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.text.icao import Format, formats_named
from otter_ray.vision.dataset_options import option_key

_CHARACTER, _ROW = 5, 8  # pixels of a crop below which nobody can read


def chosen_formats(names: Sequence[str], part: str) -> list[Format]:
    """Return the formats that an option `formats` names."""
    return formats_named(names, option_key("formats", part))


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
