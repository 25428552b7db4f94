"""Exporting a run or a checkpoint, from finding it to the JSON beside the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from otter_ray.config import Config, to_yaml
from otter_ray.errors import ExportError
from otter_ray.export.card import CARD, blank_example, write_card
from otter_ray.export.gate import Candidate, Gate, Holdout, Seen, joined, pass_gate, torch_outputs
from otter_ray.export.onnx_file import add_metadata, example_inputs, onnx_section, wrap, write_onnx
from otter_ray.figures import Interval
from otter_ray.files import exports_in, written_whole
from otter_ray.train.builders import (
    build_dataloader,
    build_test,
    build_valid,
    load_model_from_config,
)
from otter_ray.train.callbacks import BEST
from otter_ray.train.cpus import available_cpus
from otter_ray.train.mixin import BaseMixin
from otter_ray.train.record import model_figures

PACKAGES = ("lightning", "onnx", "onnxruntime", "otter_ray", "timm", "torch")


@dataclass(frozen=True)
class Exported:
    """An ONNX file that passed the gate.

    Attributes:
        json: beside it.
        gate: its figures.
        illustrate: gives what a report shows of the model (`BaseMixin.illustrate`).
        is_earlier: whether the file was there before.
    """

    onnx: Path
    json: Path
    gate: Gate
    illustrate: Callable[[], dict[str, Any]]
    is_earlier: bool = False


def find_checkpoint(source: Path) -> Path:
    """The checkpoint that a path means: itself, a run's best epoch, or a study's winner.

    Raises:
        ExportError: there is none; says where it was looked for.
    """
    candidates = [source / "checkpoints" / BEST, source / BEST] if source.is_dir() else [source]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ExportError(
        f"no checkpoint at {' or '.join(map(str, candidates))}. "
        "Give a run's folder, a study's folder, or a .ckpt file."
    )


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    config: Config | None = None,
    metric: str | None = None,
    label: str = "",
    facts: Mapping[str, Any] | None = None,
    is_winner: bool = True,
) -> Exported:
    """Writes `CONFIG_DATE_fp32.onnx`, its JSON and its card into `folder`, after the gate.

    Args:
        config: the one to build the model and the validation set from; None: the checkpoint's own.
        metric: that the gate compares; None: the one whose best epoch the checkpoint is.
        label: what tells the file apart from others of the day, such as `_trial7`.
        facts: more to write into the JSON and the file, such as the study's base (`Measured`).
        is_winner: whether the test split, where there is one, is looked at, and the card is the folder's
            MODEL.md; that of another one has its file's name.

    Raises:
        ExportError: the checkpoint is none of ours, or its ONNX file failed the gate. No file is left.
    """
    record = read_checkpoint(checkpoint)
    own = Config.from_dict(record["config"], record["config_name"])
    config = config or own
    metric = metric or record["metric"]
    if metric not in record["metrics"]:
        raise ExportError(f"{checkpoint} logged no {metric!r}. It logged {', '.join(record['metrics'])}.")
    model = load_model_from_config(config, checkpoint)
    wrapped = wrap(config, model)
    device = record.get("device", "cpu")
    candidate = Candidate(config, model, wrapped, metric, record["metrics"][metric], device)
    folder.mkdir(parents=True, exist_ok=True)
    target = _free_name(folder, f"{config.name}_{datetime.now():%Y%m%d}{label}_fp32")
    partial = target.with_suffix(".partial")
    try:
        write_onnx(config, wrapped, partial)
        valid = build_valid(config)
        test = build_test(config, valid) if is_winner else None
        split = None if test is None else _test_split(config, test, own, folder)
        gate, seen = pass_gate(partial, candidate, _loader(config, valid), split)
        provenance = _provenance(candidate, gate, checkpoint, record["epoch"] + 1)
        provenance |= {**_usage(candidate, target.name), **(facts or {})}
        add_metadata(partial, {key: _text(value) for key, value in provenance.items()})
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    beside = target.with_suffix(".json")
    with written_whole(beside) as partial:
        partial.write_text(json.dumps(provenance, indent=2) + "\n")
    write_card(target, CARD if is_winner else f"{target.stem}.md")
    return Exported(target, beside, gate, lambda: model.illustrate(*seen, valid))


def earlier_export(checkpoint: Path, folder: Path, having: Collection[str] = ()) -> Exported | None:
    """The newest ONNX file in `folder` that this very checkpoint was exported to as it stands, if any.

    Args:
        having: facts that its JSON must hold: a winner's says more than that of a file beside it.

    Raises:
        ExportError: the checkpoint is none of ours.
    """
    record = read_checkpoint(checkpoint)
    own = _identity(Config.from_dict(record["config"], record["config_name"]), checkpoint)
    known = {field.name for field in fields(Gate)}
    newest_first = sorted(exports_in(folder), key=lambda found: found[0].stat().st_mtime, reverse=True)
    for onnx, facts in newest_first:
        # What an earlier version wrote may say less.
        if own.items() <= facts.items() and {*having} <= facts.keys() and facts["gate"].keys() == known:
            gate, beside = Gate.from_dict(facts["gate"]), onnx.with_suffix(".json")
            return Exported(onnx, beside, gate, lambda: illustrate(checkpoint), is_earlier=True)
    return None


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint of ours holds. Raises ExportError for any other file."""
    try:
        record: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises half a dozen kinds for a file that is no checkpoint
        raise ExportError(f"{checkpoint} cannot be read as a checkpoint: {str(exc).splitlines()[0]}") from exc
    ours = ("config", "config_name", "metric", "metrics", "state_dict")
    missing = [key for key in ours if not isinstance(record, dict) or key not in record]
    if missing:
        raise ExportError(
            f"{checkpoint} was not written by otter_ray: it lacks {', '.join(missing)}. "
            "Train with python -m otter_ray.train, then export the run."
        )
    return record


def _free_name(folder: Path, stem: str) -> Path:
    """`stem.onnx`, or `stem-2.onnx` and so on where that exists: an export never overwrites another."""
    names = (stem if count == 1 else f"{stem}-{count}" for count in range(1, 10_000))
    return next(path for path in (folder / f"{name}.onnx" for name in names) if not path.exists())


@dataclass(frozen=True)
class Measured:
    """A checkpoint over its whole validation set.

    Attributes:
        value: its metric.
        interval: 95 % interval of that, where one is known.
        illustrate: gives what a report shows of the model (`BaseMixin.illustrate`).
    """

    value: float
    interval: Interval | None
    illustrate: Callable[[], dict[str, Any]]


def measure(checkpoint: Path) -> Measured:
    """Measures a checkpoint that is not exported, on the PyTorch model, as the gate does for those that are.

    Raises:
        OtterError: the checkpoint is none of ours, or its data cannot be used.
    """
    record, model, valid, seen = _look_at(checkpoint)
    metric = record["metric"]
    value, interval = model.score(*seen)[metric], model.score_interval(*seen, metric)
    return Measured(value, interval, lambda: model.illustrate(*seen, valid))


def illustrate(checkpoint: Path) -> dict[str, Any]:
    """What a report shows of a checkpoint's model (`BaseMixin.illustrate`). Raises as `measure`."""
    _, model, valid, seen = _look_at(checkpoint)
    return model.illustrate(*seen, valid)


def _look_at(checkpoint: Path) -> tuple[dict[str, Any], BaseMixin, Dataset[Any], Seen]:
    """What a checkpoint holds, its model, the validation set, and what the model makes of that."""
    record = read_checkpoint(checkpoint)
    config = Config.from_dict(record["config"], record["config_name"])
    model = load_model_from_config(config, checkpoint)
    wrapped, valid = wrap(config, model), build_valid(config)
    outputs, labels = [], []
    for batch in _loader(config, valid):
        inputs, label = model.exported_batch(batch)
        outputs.append(torch_outputs(wrapped, inputs))
        labels.append(label)
    return record, model, valid, (joined(outputs), torch.cat(labels))


def _test_split(config: Config, test: Dataset[Any], own: Config, folder: Path) -> Holdout:
    tested = [facts for _, facts in exports_in(folder) if facts.get("gate", {}).get("test")]
    return Holdout(
        loader=_loader(config, test),
        classes=getattr(test, "num_classes", None),
        kept_out=own.dataset == config.dataset,
        earlier=sorted(facts["date"] for facts in tested),
    )


def _loader(config: Config, dataset: Dataset[Any]) -> DataLoader[Any]:
    options = {**config.dataloader.valid_options, "shuffle": False, "drop_last": False}
    return build_dataloader(dataset, options, config.common.batch_size, available_cpus())


def _provenance(candidate: Candidate, gate: Gate, checkpoint: Path, epoch: int) -> dict[str, Any]:
    config = candidate.config
    section = onnx_section(config)
    return {
        "config": config.name,
        "checkpoint": str(checkpoint),
        **_identity(config, checkpoint),
        "epoch": epoch,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "metric": candidate.metric,
        **model_figures(candidate.wrapped, list(example_inputs(section, 1).values())),
        "inputs": {name: section.input_shape[name].model_dump() for name in section.input_names},
        "outputs": section.output_names,
        "gate": asdict(gate),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def _usage(candidate: Candidate, file: str) -> dict[str, Any]:
    """What its card says beside the figures."""
    config, model = candidate.config, candidate.model
    return {
        "intended_use": model.INTENDED_USE,
        "example": model.example(file) or blank_example(onnx_section(config), file),
        "data": config.dataset.model_dump(),
    }


def _identity(config: Config, checkpoint: Path) -> dict[str, str]:
    """What makes two exports the same, wherever the checkpoint lies by now."""
    with checkpoint.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    text = to_yaml(config).encode()
    return {"config_sha256": hashlib.sha256(text).hexdigest(), "checkpoint_sha256": weights}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
