"""What is done when the winner has been saved: comparisons, and files of lower precision.

Each step runs through `otter_ray.isolation.call`: if it fails, or its process dies, that leaves a note.
Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from otter_ray.checkpoints import BEST_CHECKPOINT
from otter_ray.errors import in_one_line
from otter_ray.export.model_files import write_facts
from otter_ray.export.result import Exported
from otter_ray.formatting import si_number
from otter_ray.isolation import call
from otter_ray.redaction import safe_text
from otter_ray.space.constraint import LATENCY, SIZE, Constraint
from otter_ray.tune.context import StudyContext
from otter_ray.tune.selection.candidates import Candidate, base_checkpoint, candidates
from otter_ray.tune.selection.outcome import Outcome

if TYPE_CHECKING:
    from otter_ray.export.comparison.gain import Winner
    from otter_ray.export.comparison.network import Network


def complete(context: StudyContext, outcome: Outcome) -> Outcome:
    """Do what the winner can be without. What a killed command left undone is done at the next one.

    Args:
        context: of the study.
        outcome: of the winner's export, which has been saved.

    Returns:
        The outcome, in which `rejected` also says what failed.
    """
    if outcome.exported is None:
        return outcome
    notes = list[str]()
    for step, failure in STEPS:
        try:
            found: list[str] | None = call(step, context, outcome, outcome.exported)
            notes += found or []
        except Exception as exc:  # a project's own code raises anything
            notes.append(safe_text(f"{failure}: {in_one_line(exc)}"))
    outcome = replace(outcome, rejected=[*outcome.rejected, *notes])
    outcome.record(context)
    return outcome


def compare_with_base(context: StudyContext, outcome: Outcome, exported: Exported) -> None:
    """Measure the base config's model on the winner's items: for the JSON, the card and the report."""
    from otter_ray.export.comparison.gain import compare
    from otter_ray.export.comparison.network import checkpoint_network
    from otter_ray.tune.selection.pictures import add_base_curves

    # A trial that ran before the config was changed was not validated as the base config is.
    is_comparable = outcome.winner is not None and not outcome.winner.config
    if exported.facts["base"] is not None or not is_comparable:
        return
    if (base := base_checkpoint(context, outcome.rows)) is None:
        return
    number, checkpoint = base
    network = checkpoint_network(checkpoint, context.problem.code, as_onnx=True)
    compared = compare(network, _measured(context, exported), context.problem.options.direction)
    illustrate = partial(network.model.illustrate, *compared.predictions, compared.valid)
    add_base_curves(context.folder.path, exported, illustrate)
    _add_facts(exported, base={"trial": number, **compared.facts})


def estimate_optimism(context: StudyContext, outcome: Outcome, exported: Exported) -> None:
    """Estimate how much too good the winner's figure is; not of a finalist's run, which seeds decide on."""
    from otter_ray.export.comparison.optimism import selection_optimism

    if outcome.is_finalist or "selection" in exported.facts:
        return
    others = _kept_others(context, exported.facts["trial"])
    direction = context.problem.options.direction
    _add_facts(exported, selection=selection_optimism(_measured(context, exported), others, direction))


def make_precisions(context: StudyContext, outcome: Outcome, exported: Exported) -> list[str]:
    """Make the files of lower precision that the config asks for; return the constraints that they violate.

    A trial's statistics are those of a file whose layers are all of lower precision. In the file that is
    handed out some may stay in float32.
    """
    from otter_ray.export.precision.files import add_precisions

    quantize, options = context.config.quantize, context.problem.options
    if quantize is None or not quantize.wanted:
        return []
    rows = add_precisions(
        exported.onnx,
        context.folder.path / BEST_CHECKPOINT,
        quantize,
        options.direction,
        project=context.problem.code,
        predictions=exported.predictions,
    )
    return violations(rows, options.bounds)


def violations(rows: Sequence[Mapping[str, Any]], bounds: Sequence[Constraint]) -> list[str]:
    """Return which constraints the files violate that are handed out.

    Args:
        rows: Of the JSON's `precisions`.
        bounds: The study's.
    """
    return [
        f"the {row['precision']} file violates {bound.text}: it has {si_number(stats[bound.stat])}. "
        "The file is kept. If it must fit, raise quantize.max_loss, which leaves fewer layers in float32, or "
        "export another trial"
        for row in rows
        if not row["reason"]
        for stats in [{f"{name}@{row['precision']}": row[key] for name, key in ROW_STATS.items()}]
        for bound in bounds
        if bound.stat in stats and bound.excess(stats) > 0
    ]


# Statistic of a file -> its key in a row of `precisions`.
ROW_STATS = {SIZE: "bytes", LATENCY: "latency_ms"}
STEPS: tuple[tuple[Callable[..., list[str] | None], str], ...] = (
    (compare_with_base, "the base config cannot be measured for the comparison"),
    (estimate_optimism, "how much too good the selection makes the figure cannot be estimated"),
    (make_precisions, "no files of lower precision were made"),
)


def _measured(context: StudyContext, exported: Exported) -> Winner:
    from otter_ray.export.comparison.gain import measured_winner

    checkpoint = context.folder.path / BEST_CHECKPOINT
    return measured_winner(exported.onnx, checkpoint, context.problem.code, exported.predictions)


def _kept_others(context: StudyContext, winner: int) -> Iterator[Callable[[], Network]]:
    """Yield what loads the models of the trials that did not win, as far as their checkpoints are kept."""
    for candidate in candidates(context):
        if candidate.trial != winner and not candidate.row.config and candidate.is_kept():
            yield partial(_loaded, candidate)


def _loaded(candidate: Candidate) -> Network:
    from otter_ray.export.comparison.network import checkpoint_network

    return checkpoint_network(candidate.checkpoint(), candidate.context.problem.code, as_onnx=False)


def _add_facts(exported: Exported, **facts: Any) -> None:
    from otter_ray.export.model_card import write_card

    write_facts(exported.onnx, {**exported.facts, **facts})
    write_card(exported.onnx)
