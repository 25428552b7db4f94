"""Export a study's models: the best one whose ONNX file passes the gate, and others on request."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from otter_ray.checkpoints import BEST_CHECKPOINT, best_checkpoint_of
from otter_ray.config import to_yaml
from otter_ray.errors import FileError, OtterError, in_one_line
from otter_ray.export.comparison.gain import Winner, compare
from otter_ray.export.comparison.network import Network, checkpoint_network
from otter_ray.export.comparison.optimism import selection_optimism
from otter_ray.export.evaluation import illustrate_checkpoint
from otter_ray.export.exporter import earlier_export, export_checkpoint, make_only
from otter_ray.export.model_files import EXPORTS, write_facts
from otter_ray.export.precision.files import add_precisions
from otter_ray.export.result import Exported
from otter_ray.files import atomic_write
from otter_ray.formatting import si_number
from otter_ray.redaction import safe_text
from otter_ray.study.gallery import is_about, read_gallery
from otter_ray.study.layout import GALLERY, TRIALS_TABLE, WINNER_CONFIG
from otter_ray.study.pareto import front
from otter_ray.study.schema import CHECKPOINT, REJECTED, TRIAL, WINNER
from otter_ray.study.trials import TrialRecord, base_of, read_records, write_parquet
from otter_ray.tune.context import StudyContext
from otter_ray.tune.selection.candidates import Candidate, candidates
from otter_ray.tune.selection.finalists import write_finals
from otter_ray.tune.selection.outcome import Outcome

logger = logging.getLogger(__name__)


def export_winner(context: StudyContext, finals: StudyContext | None = None) -> Outcome:
    """Export the best candidate that passes the gate, and write `best.yaml`, `best.ckpt`, `gallery.json`.

    Args:
        context: of the study.
        finals: the finalists' runs, which decide, if all of them have ended.
    """
    rows = read_records(context.study)
    write_parquet(rows, context.folder.path / TRIALS_TABLE, context.config)
    if finals is not None:
        write_finals(finals)
    outcome = _WinnerExport(context, rows).run(candidates(context, finals))
    known: dict[str, Any] = {REJECTED: outcome.rejected, WINNER: None}
    if outcome.exported is not None:
        facts = outcome.exported.facts
        known[WINNER] = {TRIAL: facts["trial"], CHECKPOINT: facts[CHECKPOINT]}
        if facts.get(REJECTED, []) != outcome.rejected:
            write_facts(outcome.exported.onnx, {**facts, REJECTED: outcome.rejected})
    for name, value in known.items():
        if context.study.user_attrs.get(name) != value:
            context.study.set_user_attr(name, value)
    return outcome


class _WinnerExport:
    """Export the first candidate that passes the gate.

    Args:
        context: of the study.
        rows: its trials.
    """

    def __init__(self, context: StudyContext, rows: list[TrialRecord]) -> None:
        self.context, self.rows, self.folder = context, rows, context.folder.path
        self.rejected: list[str] = []
        self._base: Callable[[], dict[str, Any]] | None = None

    def run(self, ranked: Iterable[Candidate]) -> Outcome:
        """Try the candidates one after the other.

        Args:
            ranked: the best one first.
        """
        tried: list[int] = []
        missing: list[Candidate] = []
        for candidate in ranked:
            checkpoint = candidate.checkpoint()
            if not checkpoint.is_file():
                missing.append(candidate)
                continue
            tried.append(candidate.trial)
            try:
                exported = self._export(candidate, checkpoint)
            except OtterError as exc:
                self.rejected.append(safe_text(f"{candidate} failed the gate: {exc}"))
                continue
            self._add_precisions(exported, checkpoint)
            self._save(candidate, checkpoint)
            self._write_gallery(candidate, exported)
            self.rejected += map(_lost, missing)
            return Outcome(self.rows, candidate.row, exported, self.rejected, tuple(tried))
        if missing:
            self.rejected.append(_missing(len(missing)))
        return Outcome(self.rows, None, None, self.rejected, tuple(tried))

    def _base_checkpoint(self) -> tuple[int, Path] | None:
        """Return the base config's trial and its checkpoint, if that still exists."""
        row = base_of(self.rows)
        checkpoint = Candidate(self.context, row, row.number).checkpoint() if row else None
        return (row.number, checkpoint) if row and checkpoint and checkpoint.is_file() else None

    def _export(self, candidate: Candidate, checkpoint: Path) -> Exported:
        project = self.context.problem.code
        if exported := earlier_export(checkpoint, self.folder, {"trial", "base"}, project):
            # Another trial may have won meanwhile.
            return make_only(exported, self.folder)

        def compared(winner: Winner) -> dict[str, Any]:
            return {"trial": candidate.trial, **self._compared(candidate, winner)}

        return export_checkpoint(checkpoint, self.folder, label=None, facts=compared, project=project)

    def _add_precisions(self, exported: Exported, checkpoint: Path) -> None:
        """Make the files of lower precision that the config asks for. The fp32 file stays if that fails."""
        quantize, options = self.context.config.quantize, self.context.problem.options
        if quantize is not None and quantize.wanted:
            with self._optional("no files of lower precision were made"):
                project = self.context.problem.code
                add_precisions(exported.onnx, checkpoint, quantize, options.direction, project=project)

    def _compared(self, candidate: Candidate, winner: Winner) -> dict[str, Any]:
        """Return what the JSON says of the base config and of the selection."""
        direction = self.context.problem.options.direction
        facts: dict[str, Any] = {"base": None}
        # A trial that ran before the config was changed was not validated as the base config is.
        if (base := self._base_checkpoint()) and not candidate.row.config:
            number, checkpoint = base
            with self._optional(f"trial {number}, the base config, cannot be measured for the comparison"):
                network = checkpoint_network(checkpoint, self.context.problem.code, as_onnx=True)
                compared = compare(network, winner, direction)
                facts["base"] = {"trial": number, **compared.facts}
                self._base = partial(network.model.illustrate, *compared.predictions, compared.valid)
        with self._optional("how much too good the selection makes the figure cannot be estimated"):
            if found := selection_optimism(winner, self._kept_others(candidate), direction):
                facts["selection"] = found
        return facts

    def _kept_others(self, winner: Candidate) -> Iterator[Network]:
        """Yield the models of the trials that did not win, as far as their checkpoints are kept."""
        for candidate in candidates(self.context):
            checkpoint = best_checkpoint_of(self.context.folder.trial(candidate.trial))
            is_other = candidate.trial != winner.trial and not candidate.row.config
            if is_other and checkpoint.is_file():
                with suppress(OtterError):
                    yield checkpoint_network(checkpoint, self.context.problem.code, as_onnx=False)

    @contextmanager
    def _optional(self, failure: str) -> Iterator[None]:
        """Note what fails: a figure for comparison never costs a model."""
        try:
            yield
        except Exception as exc:  # a project's own code raises anything
            self.rejected.append(safe_text(f"{failure}: {in_one_line(exc)}"))

    def _save(self, candidate: Candidate, checkpoint: Path) -> None:
        """Keep the winner's config and checkpoint where users look for them."""
        with atomic_write(self.folder / WINNER_CONFIG) as file:
            file.write_text(to_yaml(candidate.config), encoding="utf-8")
        with atomic_write(self.folder / BEST_CHECKPOINT) as file:
            shutil.copyfile(checkpoint, file)

    def _write_gallery(self, candidate: Candidate, exported: Exported) -> None:
        """Write what a report shows of the winner and the base config. An error does not cost the model."""
        try:
            if self._has_gallery(exported):
                return
            curves = self._illustrated_base(candidate).get("curves", [])
            gallery = {
                "onnx": exported.onnx.name,
                CHECKPOINT: exported.facts[CHECKPOINT],
                "winner": exported.illustrate(),
                "base": curves,
            }
            with atomic_write(self.folder / GALLERY) as file:
                file.write_text(json.dumps(gallery))
        except Exception as exc:
            logger.warning(f"the report has no pictures of the winner: {type(exc).__name__}: {exc}")

    def _illustrated_base(self, candidate: Candidate) -> dict[str, Any]:
        """Return what a report shows of the base config; nothing if it was validated on other data."""
        if self._base is not None:
            return self._base()
        base = self._base_checkpoint()
        if base is None or candidate.row.config:
            return {}
        return illustrate_checkpoint(base[1], self.context.problem.code)

    def _has_gallery(self, exported: Exported) -> bool:
        try:
            gallery = read_gallery(self.folder)
        except FileError as exc:
            logger.warning(f"drawn again: {exc}")
            return False
        return gallery is not None and is_about(gallery, exported.onnx, exported.facts)


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
