"""DocAligner's client on exported heatmaps: by its own decoding and its own Jaccard index."""

import cv2
import numpy as np
import pytest
import torch

from otter_ray.config import load_config
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.docaligner.corners import corners_of, has_document, to_pixels
from otter_ray.train.builders import build_held_out
from otter_ray.train.run_options import RunOptions
from otter_ray.train.trainer import run_training

pytestmark = pytest.mark.clients
PHOTOGRAPHS = 120
EASY = {"drawn": 12, "strength": 0.1, "occlusion": 0.0, "patch": 0.0, "empty": 0.1}
CHANGES = {
    "common.batch_size": 16,
    "trainer.max_epochs": 3,
    "optimizer.options.lr": 0.005,
    "callbacks": [],
    **{
        f"dataset.{part}_options.options.{key}": value
        for part, length in (("train", 1536), ("valid", 60), ("test", PHOTOGRAPHS))
        for key, value in {**EASY, "length_of_dataset": length}.items()
    },
}


def test_the_client_finds_what_the_gate_measured(
    session_cache, tmp_path, ask, write_images, assert_json_metadata
):
    config = load_config("docaligner_demo").with_values(CHANGES)
    best = run_training(config, tmp_path / "run", print, RunOptions(metric="valid_iou", cpus=1))
    exported = export_checkpoint(best, tmp_path / "out")
    assert_json_metadata(exported.onnx)

    images, labels = map(torch.stack, zip(*build_held_out(config)[1], strict=True))
    shown, size = has_document(labels).numpy(), tuple(config.common.image_size)
    # Of the size that the model takes: the client resizes nothing.
    job = {"model": exported.onnx, "size": size, "images": write_images(images)}
    found = ask("docaligner", **job, truth=to_pixels(corners_of(labels), size).tolist())
    figure = exported.gate.test.metrics["valid_iou"]
    assert figure > 0.2
    assert found["jaccard"][shown].mean() == pytest.approx(figure, abs=1e-3)
    empty = np.isnan(found["heatmap"]).any(axis=(1, 2))[~shown].mean()
    assert empty == pytest.approx(exported.gate.test.metrics["valid_empty"])

    # Corners as points are the expected places of the same heatmaps, but for half a pixel.
    apart = np.abs(found["heatmap"] - found["point"])
    assert np.nanmedian(apart) < 1.5

    # Photographs of another size, as cameras take them: the client squeezes them.
    large = [cv2.resize(image.permute(1, 2, 0).numpy(), (640, 480)).transpose(2, 0, 1) for image in images]
    job = {"model": exported.onnx, "size": size, "images": write_images(large)}
    found = ask("docaligner", **job, truth=to_pixels(corners_of(labels), (480, 640)).tolist())
    assert found["jaccard"][shown].mean() == pytest.approx(figure, abs=2e-2)
