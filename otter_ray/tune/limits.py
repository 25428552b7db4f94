"""What a user grants to a search."""

from __future__ import annotations

import re
from dataclasses import dataclass

from otter_ray.errors import StudyError

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Limits:
    """When a search ends before all its trials have; None: no limit.

    Attributes:
        seconds: of this command's search.
        epochs: of all trials of the study together, those of earlier commands, too.
        patience: trials in a row that may end without a new best value.
    """

    seconds: float | None = None
    epochs: int | None = None
    patience: int | None = None


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `45m`, `2h`, `1h30m`, `1.5h`, `1d`.

    Raises:
        StudyError: it is none, or nothing.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not seconds:
        raise StudyError(f"--time-budget {text} is no time. Give numbers with d, h, m or s: 90s, 45m, 1h30m.")
    return seconds
