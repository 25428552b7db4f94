"""What a study hands out: its best candidate whose ONNX file passes the gate, and others on demand."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.config import to_yaml
from otter_ray.errors import OtterError
from otter_ray.export.card import write_card
from otter_ray.export.run import Exported, earlier_export, export_checkpoint, measure
from otter_ray.files import written_whole
from otter_ray.report.front import front
from otter_ray.report.gallery import GALLERY, read_gallery
from otter_ray.report.rows import REJECTED, TrialRow, base_of, read_rows, write_parquet
from otter_ray.report.tables import shown
from otter_ray.tune.candidates import Candidate, candidates
from otter_ray.tune.finals import write_finals

if TYPE_CHECKING:
    from otter_ray.tune.run import Search


@dataclass(frozen=True)
class Outcome:
    """What a study leaves behind.

    Attributes:
        rows: its trials.
        winner: the best trial, or the best finalist's best run, whose ONNX file passed the gate; None where
            none did.
        exported: that file.
        rejected: candidates that failed the gate, with the reason.
        tried: their numbers, and the winner's.
    """

    rows: list[TrialRow]
    winner: TrialRow | None
    exported: Exported | None
    rejected: list[str]
    tried: tuple[int, ...] = ()


def export_winner(search: Search, finals: Search | None = None) -> Outcome:
    """Exports the best candidate that passes the gate, and writes `best.yaml`, `best.ckpt`, `gallery.json`.

    Args:
        finals: the runs of finalists, where every one has ended: they decide.
    """
    outcome = _export_best(search, finals)
    if outcome.rejected != search.study.user_attrs.get(REJECTED, []):
        search.study.set_user_attr(REJECTED, outcome.rejected)
    return outcome


def _export_best(search: Search, finals: Search | None) -> Outcome:
    folder = search.folder
    rows = read_rows(search.study)
    write_parquet(rows, folder.path / "trials.parquet")
    if finals is not None:
        write_finals(finals)
    rejected: list[str] = []
    tried: list[int] = []
    gone = 0
    base = cache(lambda: _measure_base(search, rows, rejected))
    for candidate in candidates(search, finals):
        best = candidate.checkpoint()
        if not best.is_file():
            gone += 1
            continue
        tried.append(candidate.trial)
        # One that ran before the config was changed was validated otherwise than the base.
        beside = _Base if candidate.row.config else base
        try:
            exported = earlier_export(best, folder.path, {"trial", "base"}) or export_checkpoint(
                best,
                folder.path,
                label=candidate.label,
                facts={"trial": candidate.trial, "base": beside().facts},
            )
        except OtterError as exc:
            rejected.append(f"{candidate} failed the gate: {exc}")
            continue
        if exported.is_earlier:
            # Another may have won meanwhile, whose card it is now.
            write_card(exported.onnx)
        with written_whole(folder.path / "best.yaml") as partial:
            partial.write_text(to_yaml(candidate.config))
        with written_whole(folder.path / "best.ckpt") as partial:
            shutil.copyfile(best, partial)
        _write_gallery(folder.path, exported, beside)
        return Outcome(rows, candidate.row, exported, rejected, tuple(tried))
    if gone:
        rejected.append(f"{gone} more have no checkpoint left: raise study.keep_best before a search")
    return Outcome(rows, None, None, rejected, tuple(tried))


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
                is_winner=False,
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


@dataclass(frozen=True)
class _Base:
    """The base config beside what is exported: for the JSON, and for the report; nothing without a model."""

    facts: dict[str, Any] | None = None
    illustrate: Callable[[], dict[str, Any]] = dict


def _measure_base(search: Search, rows: Sequence[TrialRow], rejected: list[str]) -> _Base:
    row = base_of(rows)
    best = Candidate(search, row, row.number).checkpoint() if row else None
    if row is None or best is None or not best.is_file():
        return _Base()
    try:
        measured = measure(best)
    except OtterError as exc:
        rejected.append(f"trial {row.number}, the base config, cannot be measured beside the winner: {exc}")
        return _Base()
    facts = {"trial": row.number, "value": measured.value, "interval": measured.interval}
    return _Base(facts, measured.illustrate)


def _write_gallery(folder: Path, exported: Exported, base: Callable[[], _Base]) -> None:
    """What a report shows of the winner and of the base. A picture never costs a study its model."""
    try:
        if (read_gallery(folder) or {}).get("onnx") == exported.onnx.name:
            return
        curves = base().illustrate().get("curves", [])
        shown = {"onnx": exported.onnx.name, "winner": exported.illustrate(), "base": curves}
        with written_whole(folder / GALLERY) as partial:
            partial.write_text(json.dumps(shown))
    except Exception as exc:
        text = f"the report goes without pictures of the winner: {type(exc).__name__}: {exc}"
        warnings.warn(text, stacklevel=2)


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
