"""Exporting a run or a checkpoint, from finding it to the JSON beside the file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from otter_ray.config import Config, to_yaml
from otter_ray.errors import ExportError
from otter_ray.export.gate import Candidate, Gate, pass_gate
from otter_ray.export.onnx_file import add_metadata, example_inputs, onnx_section, wrap, write_onnx
from otter_ray.train.builders import (
    available_cpus,
    build_dataloader,
    build_dataset,
    dataset_facts,
    load_model_from_config,
)
from otter_ray.train.callbacks import BEST
from otter_ray.train.record import model_figures

PACKAGES = ("lightning", "onnx", "onnxruntime", "otter_ray", "timm", "torch")


@dataclass(frozen=True)
class Exported:
    """An ONNX file that passed the gate, its JSON, and the gate's figures."""

    onnx: Path
    json: Path
    gate: Gate


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
    checkpoint: Path, folder: Path, config: Config | None = None, metric: str | None = None
) -> Exported:
    """Writes `CONFIG_DATE_fp32.onnx` and its JSON into `folder`, after the gate.

    Args:
        config: the one to build the model and the validation set from; None: the checkpoint's own.
        metric: that the gate compares; None: the one whose best epoch the checkpoint is.

    Raises:
        ExportError: the checkpoint is none of ours, or its ONNX file failed the gate. No file is left.
    """
    record = read_checkpoint(checkpoint)
    config = config or Config.from_dict(record["config"], record["config_name"])
    metric = metric or record["metric"]
    if metric not in record["metrics"]:
        raise ExportError(f"{checkpoint} logged no {metric!r}. It logged {', '.join(record['metrics'])}.")
    model = load_model_from_config(config, checkpoint)
    wrapped = wrap(config, model)
    device = record.get("device", "cpu")
    candidate = Candidate(config, model, wrapped, metric, record["metrics"][metric], device)
    folder.mkdir(parents=True, exist_ok=True)
    target = _free_name(folder, f"{config.name}_{datetime.now():%Y%m%d}_fp32")
    partial = target.with_suffix(".partial")
    try:
        write_onnx(config, wrapped, partial)
        gate = pass_gate(partial, candidate, _validation(config))
        provenance = _provenance(candidate, gate, checkpoint, record["epoch"] + 1)
        add_metadata(partial, {key: _text(value) for key, value in provenance.items()})
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    beside = target.with_suffix(".json")
    beside.write_text(json.dumps(provenance, indent=2) + "\n")
    return Exported(target, beside, gate)


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


def _validation(config: Config) -> DataLoader[Any]:
    dataset = build_dataset(config.dataset.valid_options, config.project, dataset_facts(config))
    options = {**config.dataloader.valid_options, "shuffle": False, "drop_last": False}
    return build_dataloader(dataset, options, config.common.batch_size, available_cpus())


def _provenance(candidate: Candidate, gate: Gate, checkpoint: Path, epoch: int) -> dict[str, Any]:
    config = candidate.config
    section = onnx_section(config)
    return {
        "config": config.name,
        "config_sha256": hashlib.sha256(to_yaml(config).encode()).hexdigest(),
        "checkpoint": str(checkpoint),
        "epoch": epoch,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "metric": candidate.metric,
        **model_figures(candidate.wrapped, list(example_inputs(section, 1).values())),
        "inputs": {name: section.input_shape[name].model_dump() for name in section.input_names},
        "outputs": section.output_names,
        "gate": asdict(gate),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
