"""A tiny run of the recogniser: trained, exported, and read from its file as a client does."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import onnxruntime
import pytest

from otter_ray import load_config
from otter_ray.export import export_checkpoint
from otter_ray.projects.mrzscanner import CropDataset
from otter_ray.projects.mrzscanner.metrics.texts import compare
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS
from otter_ray.train import RunHooks, RunOptions, run_training

TINY = [
    "common.image_size=[24, 220]",
    "global_settings.image_size=[24, 220]",
    "onnx.input_shape.img.shape=[1, 3, 24, 220]",
    "trainer.max_epochs=1",
    "model.backbone.options.width=8",
    "model.head.options.dim=16",
    "dataset.train_options.options.length_of_dataset=48",
    "dataset.valid_options.options.length_of_dataset=24",
    "dataset.test_options.options.length_of_dataset=24",
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = load_config("mrz_demo", TINY)
    best = run_training(config, folder, print, RunOptions(metric="valid_anls", cpus=1), RunHooks())
    return export_checkpoint(best, folder, project=config.project)


def test_the_file_reads_as_the_gate_says(exported):
    record = json.loads(exported.onnx.with_suffix(".json").read_text())
    session = onnxruntime.InferenceSession(exported.onnx, providers=["CPUExecutionProvider"])
    assert [each.name for each in (*session.get_inputs(), *session.get_outputs())] == ["img", "text"]
    crops = CropDataset((24, 220), length_of_dataset=24, strength=0.5, seed=1, frozen=True)
    images, labels = zip(*crops, strict=True)
    # The file takes BGR.
    text = session.run(["text"], {"img": np.stack([image.numpy()[::-1] for image in images])})[0]
    assert text.shape == (24, 93, 40)
    truth = np.stack([label["text"].numpy() for label in labels])
    found = compare(text.argmax(2), truth, READER_KEYS)
    assert found.similarity.mean() == pytest.approx(exported.gate.metrics["valid_anls"], abs=1e-6)
    formats = record["gate"]["details"]["formats"]
    assert sum(row["zones"] for row in formats) == 24


def test_the_example_of_the_card_runs_as_printed(exported, tmp_path):
    folder = exported.onnx.parent
    (example,) = re.findall(r"```python\n(.*?)```", (folder / "MODEL.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 10
    image = CropDataset((24, 220), length_of_dataset=1, strength=0)[0][0]
    pixels = (image.numpy().transpose(1, 2, 0)[..., ::-1] * 255).round()
    cv2.imwrite(str(tmp_path / "zone.png"), pixels)
    line = [sys.executable, "-c", example, str(tmp_path / "zone.png")]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[A-Z0-9< ]*\n", done.stdout)
