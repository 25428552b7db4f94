"""Export a run or a checkpoint: find it, write the ONNX file, pass the gate, write JSON and card."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from otter_ray.checkpoints import BEST_CHECKPOINT, best_checkpoint_of
from otter_ray.config import Config, to_yaml
from otter_ray.disk import flush_to_disk
from otter_ray.errors import ExportError, FileError
from otter_ray.export.evaluation import (
    config_of,
    evaluation_loader,
    illustrate_checkpoint,
    packed,
    read_run_checkpoint,
)
from otter_ray.export.gate import Holdout, pass_gate
from otter_ray.export.model_card import CARD, blank_example, write_card
from otter_ray.export.model_files import (
    EXPORTS,
    exports_in,
    facts_file,
    file_digest,
    free_name,
    move_model,
    plain_stem,
    set_aside,
    write_facts,
)
from otter_ray.export.onnx_file import add_metadata, onnx_section, wrap, write_onnx
from otter_ray.export.reference import ReferenceModel, scored_in
from otter_ray.export.result import UNIT, Exported, GateResult
from otter_ray.train.builders import (
    build_test,
    build_valid,
    load_model_from_config,
)
from otter_ray.train.model.channels import exported_channels
from otter_ray.train.model.complexity import model_stats
from otter_ray.train.model.example_inputs import model_inputs

logger = logging.getLogger(__name__)
PACKAGES = ("lightning", "onnx", "onnxruntime", "otter_ray", "timm", "torch")


def find_checkpoint(source: Path) -> Path:
    """Return the checkpoint that a path means: itself, a run's best epoch, or a study's winner.

    Raises:
        ExportError: There is none; the message says where it was looked for.
    """
    places = [best_checkpoint_of(source), source / BEST_CHECKPOINT] if source.is_dir() else [source]
    for place in places:
        if place.is_file():
            return place
    raise ExportError(
        f"no checkpoint at {' or '.join(map(str, places))}. "
        "Give a run's folder, a study's folder, or a .ckpt file."
    )


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    config: Config | None = None,
    metric: str | None = None,
    label: str | None = "",
    facts: Mapping[str, Any] | None = None,
    is_winner: bool = True,
    project: str | None = None,
) -> Exported:
    """Write `CONFIG_DATE_fp32.onnx`, its JSON and its card into `folder`, after the gate.

    The JSON is written first: a kill in between leaves no ONNX file of which nothing is known.

    Args:
        checkpoint: The checkpoint to export.
        folder: Where the files go.
        config: The config to build the model and the validation set from; None means the checkpoint's own.
        metric: The metric that the gate compares; None means the one whose best epoch the checkpoint is.
        label: What tells the file apart from others of the same day, such as `_trial7`; if the name is taken,
            it gets a number. None: no other model stays in the folder; those exported into it before
            move to its `exports/`.
        facts: More entries for the JSON and the file's metadata, such as the trial's number.
        is_winner: Whether the file is tested on the test split, if there is one, and its card is the folder's
            MODEL.md. The card of another file has that file's name.
        project: The one that the checkpoint may import (see `config_of`).

    Raises:
        ExportError: otter_ray did not write the checkpoint, it names another project, or its ONNX file failed
            the gate. No file is left.
    """
    record = read_run_checkpoint(checkpoint)
    own = config_of(record, checkpoint, config.code if config else project)
    config = config or own
    metric = metric or record["metric"]
    if metric not in record["metrics"]:
        raise ExportError(f"{checkpoint} logged no {metric!r}. It logged {', '.join(record['metrics'])}.")
    model = load_model_from_config(config, checkpoint)
    wrapped = wrap(config, model)
    precision = scored_in(record, config.trainer.precision)
    reference = ReferenceModel(config, model, wrapped, metric, record["metrics"][metric], precision)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{config.name}_{datetime.now():%Y%m%d}{label or ''}_fp32"
    target = folder / f"{stem}.onnx" if label is None else free_name(folder, stem)
    partial = target.with_suffix(".partial")
    try:
        write_onnx(config, wrapped, partial)
        valid = build_valid(config)
        test = build_test(config, valid) if is_winner else None
        split = None if test is None else _test_split(config, test, own, folder)
        gate, predictions = pass_gate(partial, reference, evaluation_loader(config, valid), split)
        gate = replace(gate, unit=getattr(valid, "unit", UNIT))
        provenance = _provenance(reference, gate, checkpoint, record["epoch"] + 1)
        provenance |= {**_usage(reference, target.name), **(facts or {})}
        add_metadata(partial, {**_meta_info(config), **provenance})
        flush_to_disk(partial)
        if label is None:
            set_earlier_aside(folder)
        write_facts(target, provenance | {"onnx_sha256": file_digest(partial)})
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    write_card(target, CARD if is_winner else f"{target.stem}.md")
    return Exported(
        target,
        facts_file(target),
        gate,
        lambda: model.illustrate(*predictions, valid),
        predictions=packed(predictions),
    )


def earlier_export(
    checkpoint: Path, folder: Path, having: Collection[str] = (), project: str | None = None
) -> Exported | None:
    """Return an ONNX file that was exported from exactly this checkpoint, if there is one.

    Args:
        checkpoint: The checkpoint.
        folder: Where exports are, also in its `exports/`.
        having: Entries that the file's JSON must have: a winner's has more than another trial's.
        project: The one that the checkpoint may import (see `config_of`).

    Raises:
        ExportError: otter_ray did not write the checkpoint, or it names another project.
    """
    record = read_run_checkpoint(checkpoint)
    own = _identity(config_of(record, checkpoint, project), checkpoint)
    for place in (folder, folder / EXPORTS):
        found, damaged = exports_in(place)
        for error in damaged:
            logger.warning(error)
        for onnx, facts in found:
            # An earlier version may have written less.
            is_known = own.items() <= facts.items() and {*having} <= facts.keys()
            if is_known and GateResult.can_read(facts["gate"]) and _is_whole(onnx, facts):
                gate, beside = GateResult.from_dict(facts["gate"]), facts_file(onnx)
                return Exported(
                    onnx, beside, gate, lambda: illustrate_checkpoint(checkpoint, project), is_earlier=True
                )
    return None


def make_only(exported: Exported, folder: Path) -> Exported:
    """Make an earlier export the model of a study's folder: under the plain name, with the folder's card.

    Args:
        exported: The export, in the folder or in its `exports/`.
        folder: The study's.
    """
    onnx = folder / f"{plain_stem(exported.onnx)}.onnx"
    set_earlier_aside(folder, keep=exported.onnx)
    if exported.onnx != onnx:
        move_model(exported.onnx, onnx)
        onnx.with_suffix(".md").unlink(missing_ok=True)  # of the time when it was not the only one
    write_card(onnx)
    return replace(exported, onnx=onnx, json=facts_file(onnx))


def set_earlier_aside(folder: Path, keep: Path | None = None) -> None:
    """Move the models that were exported into a folder to its `exports/`, each with a card of its own.

    Args:
        folder: A study's.
        keep: A model that stays.
    """
    for onnx in set_aside(folder, keep):
        try:
            write_card(onnx, f"{onnx.stem}.md")
        except FileError as exc:
            logger.warning(exc)


def _is_whole(onnx: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether an ONNX file is still the one that passed the gate."""
    digest = facts.get("onnx_sha256")
    if onnx.is_file() and digest in (None, file_digest(onnx)):
        return True
    logger.warning(f"{onnx}: is not the file that passed the gate. It is exported again.")
    return False


def _test_split(config: Config, test: Dataset[Any], own: Config, folder: Path) -> Holdout:
    places = (folder, folder / EXPORTS)
    tested = [facts for place in places for _, facts in exports_in(place)[0] if facts["gate"].get("test")]
    return Holdout(
        loader=evaluation_loader(config, test),
        classes=getattr(test, "num_classes", None),
        kept_out=own.data_section == config.data_section,
        earlier=sorted(facts["date"] for facts in tested),
        unit=getattr(test, "unit", UNIT),
    )


def _provenance(reference: ReferenceModel, gate: GateResult, checkpoint: Path, epoch: int) -> dict[str, Any]:
    config = reference.config
    section = onnx_section(config)
    return {
        "config": config.name,
        "checkpoint": str(checkpoint),
        **_identity(config, checkpoint),
        "epoch": epoch,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "metric": reference.metric,
        **model_stats(reference.wrapped, model_inputs(config, 1)),
        "inputs": {name: section.input_shape[name].model_dump() for name in section.input_names},
        "channels": exported_channels(config),
        "outputs": section.output_names,
        "gate": asdict(gate),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def _meta_info(config: Config) -> Mapping[str, Any]:
    """Return what the config adds to the metadata of an ONNX file. Its names are none of an export's own."""
    return getattr(config.onnx, "additional_meta_info", None) or {}


def _usage(reference: ReferenceModel, file: str) -> dict[str, Any]:
    """Return what the card says in addition to the figures."""
    config, model = reference.config, reference.model
    return {
        "intended_use": model.INTENDED_USE,
        "example": model.example(file) or blank_example(onnx_section(config), file),
        "search_example": model.search_example(file),
        "data": config.data_section.model_dump(),
    }


def _identity(config: Config, checkpoint: Path) -> dict[str, str]:
    """Return what makes two exports the same, wherever the checkpoint is now."""
    text = to_yaml(config).encode()
    return {"config_sha256": hashlib.sha256(text).hexdigest(), "checkpoint_sha256": file_digest(checkpoint)}
