"""Short runs of both heads, and the files that they export."""

import json
import subprocess
import sys

import cv2
import onnx
import onnxruntime
import pytest
import torch

from otter_ray.config import load_config
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.docaligner import AlignerModel
from otter_ray.projects.docaligner.visuals.sheets import draw_sheets
from otter_ray.train.builders import build_valid
from otter_ray.train.run_options import RunOptions
from otter_ray.train.trainer import run_training
from tests.support.tiny import MOMENTUM, SMALL

DATA = {"drawn": 4, "length_of_dataset": 64, "strength": 0.2}
TINY = {
    **SMALL,
    **MOMENTUM,
    "model.neck.options.out_channels": 8,
    "trainer.max_epochs": 1,
    "callbacks": [],
    **{
        f"dataset.{part}_options.options.{key}": value
        for part in ("train", "valid", "test")
        for key, value in DATA.items()
    },
}
POINTS = {
    "model.head": {"name": "PointHead", "options": {"d_model": 8, "heads": 2}},
    "model.loss": {"name": "CornerLoss", "options": {}},
    "onnx.name": "WarpPoints",
    "onnx.output_names": ["points", "has_obj"],
}


@pytest.mark.parametrize("changes", [{"model.neck.name": "BiFPN"}, POINTS], ids=["heatmaps", "points"])
def test_a_run_and_its_file(changes, tmp_path, cache):
    config = load_config("docaligner_demo").with_values({**TINY, **changes})
    reports = []
    best = run_training(config, tmp_path, reports.append, RunOptions(metric="valid_iou", cpus=1))
    metrics = reports[0].metrics
    assert metrics["loss"] > 0
    assert {
        "valid_iou",
        "valid_recall@90",
        "valid_peak_iou",
        "valid_corner_px",
        "valid_empty",
    } <= metrics.keys()
    exported = export_checkpoint(best, tmp_path)
    gate = exported.gate
    assert gate.metrics["valid_iou"] == pytest.approx(metrics["valid_iou"], abs=1e-3)
    assert gate.test.images == 64
    # The public client parses every value of a file's metadata.
    [file] = tmp_path.glob("*.onnx")
    assert all(json.loads(prop.value) is not NotImplemented for prop in onnx.load(file).metadata_props)
    session = onnxruntime.InferenceSession(str(file))
    assert [each.name for each in session.get_outputs()] == config.onnx.output_names
    image, _ = build_valid(config)[0]
    with torch.inference_mode():
        outputs = dict(
            zip(
                config.onnx.output_names, session.run(None, {"img": image.flip(0)[None].numpy()}), strict=True
            )
        )
    assert outputs["points"].shape == (1, 8)
    assert 0 <= outputs["has_obj"].min() <= outputs["has_obj"].max() <= 1
    # The card's program, on a photograph.
    cv2.imwrite(str(tmp_path / "photo.png"), (image.permute(1, 2, 0).numpy()[..., ::-1] * 255).round())
    program = AlignerModel(config).example(file.name)
    line = [sys.executable, "-c", program, "photo.png"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("document ")
    assert "corners [[" in done.stdout


def test_sheets_and_galleries(tmp_path, cache):
    config = load_config("docaligner_demo").with_values(TINY)
    valid = build_valid(config)
    draw_sheets(valid, valid, tmp_path)
    assert cv2.imread(str(tmp_path / "scenes.png")).shape[1] > 8 * 192
    labels = torch.stack([valid[index][1] for index in range(len(valid))])
    true = labels[:, :8].unflatten(1, (4, 2))
    found = true.clone()
    found[labels[:, 8] > 0, 1] = -1.0  # a corner is missing
    shown = AlignerModel(config).illustrate((found, true), labels, valid)
    first, second = shown["galleries"]
    cell = first["rows"][0][0]
    assert cell["image"].startswith("data:image/jpeg;base64,")
    assert (cell["kind"], cell["text"]) == ("wrong", "0.0000")
    assert sum(map(len, second["rows"])) == 24
