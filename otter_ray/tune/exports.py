"""Which trials' models a study hands out: the winner's, the Pareto front's, or the best N."""

from __future__ import annotations

import re
from dataclasses import dataclass

from otter_ray.config.study import StudyOptions
from otter_ray.errors import StudyError


@dataclass(frozen=True)
class Exports:
    """What --export asks for.

    Attributes:
        is_front: every point of the Pareto front; else
        count: so many of the best trials, in which the winner is one.
    """

    is_front: bool = False
    count: int = 1

    @classmethod
    def of(cls, text: str, options: StudyOptions) -> Exports:
        """That of `best`, `pareto` or `top3`. Raises StudyError."""
        if text == "best":
            return cls()
        if text == "pareto" and not options.objectives:
            raise StudyError(
                f"--export pareto, but the study has one objective, {options.metric}. Name others in the "
                "space's study.objectives (objectives: {macs: min}), or take --export top3."
            )
        number = re.fullmatch(r"top([1-9]\d{0,3})", text)
        if text != "pareto" and number is None:
            raise StudyError(f"--export {text} is none. Give best, pareto, or top with a number: top3.")
        return cls(True) if number is None else cls(count=int(number[1]))

    @property
    def are_several(self) -> bool:
        """Whether files are named after their trials."""
        return self.is_front or self.count > 1


THE_BEST = Exports()
