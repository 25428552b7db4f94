"""Export a study's models: the best one whose ONNX file passes the gate, and others on request."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

from otter_ray.checkpoints import BEST_CHECKPOINT, best_checkpoint_of
from otter_ray.config import to_yaml
from otter_ray.errors import OtterError
from otter_ray.export.exporter import earlier_export, export_checkpoint, make_only
from otter_ray.export.model_files import EXPORTS
from otter_ray.export.result import Exported
from otter_ray.files import atomic_write
from otter_ray.formatting import si_number
from otter_ray.redaction import safe_text
from otter_ray.study.layout import TRIALS, TRIALS_TABLE, WINNER_CONFIG
from otter_ray.study.pareto import front
from otter_ray.study.trials import TrialRecord, read_records, write_parquet
from otter_ray.tune.context import StudyContext
from otter_ray.tune.selection.candidates import Candidate, candidates
from otter_ray.tune.selection.finalists import write_finals
from otter_ray.tune.selection.outcome import Outcome
from otter_ray.tune.selection.pictures import draw_gallery


def export_winner(context: StudyContext, finals: StudyContext | None = None) -> Outcome:
    """Export the best candidate that passes the gate, and save it: files, config, checkpoint, journal.

    Nothing that the winner can be without is done before (see `completion.complete`).

    Args:
        context: of the study.
        finals: the finalists' runs, which decide, if all of them have ended.
    """
    rows = read_records(context.study)
    write_parquet(rows, context.folder.path / TRIALS_TABLE, context.config)
    if finals is not None:
        write_finals(finals)
    outcome = _first_exported(context, rows, candidates(context, finals))
    outcome.record(context)
    if outcome.exported is not None:
        draw_gallery(context, rows, outcome.exported)
    return outcome


def _first_exported(context: StudyContext, rows: list[TrialRecord], ranked: Iterable[Candidate]) -> Outcome:
    """Export and keep the first candidate that passes the gate.

    Args:
        context: of the study.
        rows: its trials.
        ranked: the best one first.
    """
    tried: list[int] = []
    rejected: list[str] = []
    missing: list[Candidate] = []
    for candidate in ranked:
        checkpoint = candidate.checkpoint()
        if not checkpoint.is_file():
            missing.append(candidate)
            continue
        tried.append(candidate.trial)
        try:
            exported = _exported(context, candidate, checkpoint)
        except OtterError as exc:
            rejected.append(safe_text(f"{candidate} failed the gate: {exc}"))
            continue
        _save(context.folder.path, candidate, checkpoint)
        rejected += map(_lost, missing)
        is_finalist = candidate.context is not context
        return Outcome(rows, candidate.row, exported, rejected, tuple(tried), is_finalist)
    if missing:
        rejected.append(_missing(len(missing)))
    return Outcome(rows, None, None, rejected, tuple(tried))


def _exported(context: StudyContext, candidate: Candidate, checkpoint: Path) -> Exported:
    """Return the candidate's file. Its JSON has no comparison with the base config yet."""
    folder, project = context.folder.path, context.problem.code
    if exported := earlier_export(checkpoint, folder, {"trial", "base"}, project):
        # Another trial may have won meanwhile.
        return make_only(exported, folder)
    facts = {"trial": candidate.trial, "base": None}
    return export_checkpoint(checkpoint, folder, label=None, facts=facts, project=project)


def _save(folder: Path, candidate: Candidate, checkpoint: Path) -> None:
    """Keep the winner's config and checkpoint where users look for them."""
    with atomic_write(folder / WINNER_CONFIG) as file:
        file.write_text(to_yaml(candidate.config), encoding="utf-8")
    with atomic_write(folder / BEST_CHECKPOINT) as file:
        shutil.copyfile(checkpoint, file)


def export_others(context: StudyContext, finals: StudyContext | None, outcome: Outcome) -> list[str]:
    """Export what was asked for in addition to the winner.

    The test split is reserved for the winner, so that nobody chooses among models by their test results.

    Args:
        context: of the study.
        finals: the finalists' runs, if all of them have ended.
        outcome: of the winner's export.

    Returns:
        What became of each trial, in one line.
    """
    exports, lines, done, missing = context.exports, [], {*outcome.tried}, 0
    left = len(outcome.rows) if exports.is_front else exports.count - bool(outcome.exported)
    for candidate in _others(context, finals, outcome):
        if candidate.trial in done or not left:
            continue
        checkpoint, name = candidate.checkpoint(), _named(candidate.row, candidate.trial, context)
        if not checkpoint.is_file():
            missing += 1
            continue
        try:
            folder, project = context.folder.path, context.problem.code
            exported = earlier_export(checkpoint, folder, project=project) or export_checkpoint(
                checkpoint,
                folder / EXPORTS,
                label=candidate.label,
                facts={"trial": candidate.trial},
                is_winner=False,
                project=project,
            )
        except OtterError as exc:
            lines.append(f"{name} failed the gate: {exc}")
            continue
        done.add(candidate.trial)
        left -= 1
        lines.append(f"{name}, gate passed: {exported.onnx}")
    if missing and left:
        lines.append(_missing(missing))
    quantize = context.config.quantize
    if lines and quantize is not None and quantize.wanted:
        asked = [part for precision in quantize.wanted for part in ("--quantize", precision)]
        source = str(context.folder.path / TRIALS / "NUMBER")
        command = shlex.join(["python", "-m", "otter_ray.export", source, *asked])
        lines.append(f"files of lower precision are made of the winner alone. For another trial: {command}")
    return lines


def _lost(candidate: Candidate) -> str:
    place = best_checkpoint_of(candidate.context.folder.trial(candidate.row.number))
    return (
        f"{candidate} is better, but its checkpoint is missing: {place}. It was deleted, or study.keep_best "
        "is too low"
    )


def _missing(count: int) -> str:
    return f"{count} more have no checkpoint left: raise study.keep_best before a search"


def _others(context: StudyContext, finals: StudyContext | None, outcome: Outcome) -> Iterable[Candidate]:
    """Return the trials on the front, or all candidates, best first."""
    options = context.problem.options
    if not context.exports.is_front:
        return candidates(context, finals)
    points = front(outcome.rows, options.direction, options.other_directions)
    return (Candidate(context, row, row.number) for row in points)


def _named(row: TrialRecord, number: int, context: StudyContext) -> str:
    """Name a trial with its values of all objectives."""
    options = context.problem.options
    others = "".join(
        f", {name} {si_number(row.figures[name])}" for name in options.objectives if name in row.figures
    )
    return f"trial {number} ({options.metric} {row.value:.4f}{others})"
