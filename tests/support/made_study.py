"""Studies as a search leaves them, without the training: an Optuna journal, and the files beside it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from otter_ray.config import load_config, to_yaml
from otter_ray.report.study_data import StudyData
from otter_ray.space import load_space, space_to_yaml
from otter_ray.study.journal import open_journal
from otter_ray.study.schema import CURVE, METRIC, OBJECTIVES

LR, NAME, M = "optimizer.options.lr", "model.loss.name", "model.loss.options.m"
BACKBONE, BACKBONES = "model.backbone.options.name", ["lcnet_050", "mobilenetv4_conv_small"]
RANGES = {
    BACKBONE: CategoricalDistribution(BACKBONES),
    LR: FloatDistribution(2e-3, 2e-2, log=True),
    NAME: CategoricalDistribution(["CosFace", "ArcFace"]),
    f"{M}[CosFace]": FloatDistribution(0.0, 0.4),
    f"{M}[ArcFace]": FloatDistribution(0.2, 0.6),
}
START = datetime(2026, 1, 2, 3, 4, 5)
EPOCHS = 4


def drawn(count: int, seed: int = 0) -> list[dict]:
    """Parameters of trials, and curves that follow from `m` alone; odd ones end after the first epoch."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        name = ("CosFace", "ArcFace")[rng.integers(2)]
        m = float(rng.uniform(0.2, 0.4))
        params = {LR: float(10 ** rng.uniform(-2.6, -1.8)), NAME: name, f"{M}[{name}]": m}
        top = 0.9 - 2 * (m - 0.2)
        curve = [top * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)]
        found.append({"params": params, "curve": curve[:1] if number % 2 else curve})
    return found


def make(
    folder: Path, trials: list[dict], mode: str = "max", objectives: dict[str, str] | None = None
) -> StudyData:
    """A study of these trials: `params`, `curve`, and some `error`, `start`, `host`, `figures`, `notes`."""
    folder.mkdir(parents=True, exist_ok=True)
    others = objectives or {}
    names = {"max": "maximize", "min": "minimize"}
    study = optuna.create_study(
        storage=open_journal(folder / "study.journal"),
        study_name=folder.name,
        directions=[names[each] for each in (mode, *others.values())],
    )
    if others:
        study.set_user_attr(OBJECTIVES, others)
    study.set_user_attr(METRIC, "valid_fpr@4")
    for number, trial in enumerate(trials):
        study.add_trial(_trial(number, trial, mode, others))
    (folder / "config.yaml").write_text(to_yaml(load_config("demo")))
    (folder / "space.yaml").write_text(space_to_yaml(load_space("demo")))
    return StudyData(study, folder)


def _trial(number: int, trial: dict, mode: str, others: dict[str, str]) -> optuna.trial.FrozenTrial:
    curve, params = trial.get("curve", []), trial.get("params", {})
    is_whole = len(curve) == EPOCHS
    state = TrialState.COMPLETE if is_whole or others else TrialState.PRUNED
    if "error" in trial:
        state = TrialState.FAIL
    figures = trial.get("figures", {})
    best = (max if mode == "max" else min)(curve, default=0.0)
    values = {key.partition("[")[0]: value for key, value in params.items()}
    notes = {
        "values": values,
        "seconds": float(10 * len(curve)),
        "host": trial.get("host", "here"),
        "figures": figures,
        **({"error": trial["error"]} if "error" in trial else {}),
        **({"stopped": len(curve)} if not is_whole else {}),
        **trial.get("notes", {}),
        **{CURVE + str(epoch): {"valid_fpr@4": value} for epoch, value in enumerate(curve, 1)},
    }
    made = create_trial(
        state=state,
        values=[best, *(figures[name] for name in others)] if state == TrialState.COMPLETE else None,
        params=params,
        distributions={name: RANGES[name] for name in params},
        intermediate_values=dict(enumerate(curve, 1)),
        user_attrs=notes,
    )
    made.datetime_start = START + timedelta(seconds=trial.get("start", 40 * number))
    made.datetime_complete = made.datetime_start + timedelta(seconds=10 * len(curve) + 1)
    return made


def export(data: StudyData, trial: int, pictures: dict | None = None) -> StudyData:
    """What the export of a trial leaves in the folder; gives the study as it is now."""
    metrics = {"valid_fpr@4": 0.87, "valid_auc": 0.99}
    gate = {
        "opset": 16, "batches": [1, 2, 7], "output_difference": 4.1e-7, "metrics": metrics,
        "interval": [0.74, 0.96], "pytorch_metrics": metrics, "recorded": 0.87, "images": 336,
        "details": {"roc": [{"fpr": 1e-4, "tpr": 0.87, "threshold": 0.92}], "negative_pairs": 52416},
        "metric": "valid_fpr@4",
        "test": {"metrics": {"valid_fpr@4": 0.55}, "interval": [0.3, 0.8], "images": 100, "classes": 5,
                 "kept_out": True, "earlier": []},
    }  # fmt: skip
    facts = {
        "trial": trial, "epoch": 4, "date": "2026-01-02T03:14:15+00:00", "metric": "valid_fpr@4",
        "macs": 3673000, "gate": gate, "base": {"trial": 0, "value": 0.38, "interval": [0.16, 0.64]},
    }  # fmt: skip
    (data.folder / "demo_fp32.onnx").touch()
    (data.folder / "demo_fp32.json").write_text(json.dumps(facts))
    if pictures is not None:
        kept = {"onnx": "demo_fp32.onnx", "winner": pictures, "base": pictures.get("curves", [])}
        (data.folder / "gallery.json").write_text(json.dumps(kept))
    return StudyData(data.study, data.folder)
