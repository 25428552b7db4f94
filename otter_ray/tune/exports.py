"""Which trials' models a study hands out: the winner's, the Pareto front's, or the best N."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otter_ray.config import StudyOptions
from otter_ray.errors import OtterError, StudyError
from otter_ray.export.run import earlier_export, export_checkpoint
from otter_ray.report.front import front
from otter_ray.report.rows import TrialRow
from otter_ray.report.tables import shown
from otter_ray.tune.candidates import Candidate, candidates

if TYPE_CHECKING:
    from otter_ray.tune.run import Search
    from otter_ray.tune.winner import Outcome


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


def export_others(search: Search, finals: Search | None, outcome: Outcome) -> list[str]:
    """Exports what was asked for beside the winner; says of each trial what became of it.

    The test split is the winner's alone: many figures of it would be there to choose by.
    """
    exports, lines, done, gone = search.exports, [], {*outcome.tried}, 0
    left = len(outcome.rows) if exports.is_front else exports.count - bool(outcome.exported)
    for candidate in _others(search, finals, outcome):
        if candidate.trial in done or not left:
            continue
        checkpoint, who = candidate.checkpoint(), _named(candidate.row, candidate.trial, search)
        if not checkpoint.is_file():
            gone += 1
            continue
        try:
            exported = earlier_export(checkpoint, search.folder.path) or export_checkpoint(
                checkpoint,
                search.folder.path,
                label=candidate.label,
                facts={"trial": candidate.trial},
                is_tested=False,
            )
        except OtterError as exc:
            lines.append(f"{who} failed the gate: {exc}")
            continue
        done.add(candidate.trial)
        left -= 1
        lines.append(f"{who}, gate passed: {exported.onnx}")
    if gone and left:
        lines.append(f"{gone} more have no checkpoint left: raise study.keep_best before a search")
    return lines


def _others(search: Search, finals: Search | None, outcome: Outcome) -> Iterable[Candidate]:
    """The front's points, or all that may be exported, best first."""
    options = search.space.study
    if not search.exports.is_front:
        return candidates(search, finals)
    points = front(outcome.rows, options.mode, options.objectives)
    return (Candidate(search, row, row.number) for row in points)


def _named(row: TrialRow, number: int, search: Search) -> str:
    options = search.space.study
    others = "".join(
        f", {name} {shown(row.figures[name])}" for name in options.objectives if name in row.figures
    )
    return f"trial {number} ({options.metric} {row.value:.4f}{others})"
