"""DocClassifier's client on an exported embedding."""

import shutil

import pytest
import torch

from otter_ray.config import Config
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.train.builders import build_held_out

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("client_python")]
DOCUMENTS, CAPTURES = 5, 20
CHANGES = {
    "onnx.wrapper_options.channels": "bgr",
    "dataset.test_options.options.held_out": DOCUMENTS,
    "dataset.test_options.options.captures": CAPTURES,
    "dataset.test_options.options.strength": 0.1,
}


def test_the_client_finds_what_the_gate_measured(tiny_run, tmp_path, ask, write_images, assert_json_metadata):
    record = torch.load(tiny_run.best, map_location="cpu", weights_only=True)
    config = Config.from_dict(record["config"], record["config_name"]).with_values(CHANGES)
    exported = export_checkpoint(tiny_run.best, tmp_path / "out", config)
    assert_json_metadata(exported.onnx)

    _, test = build_held_out(config)
    images, labels = zip(*test, strict=True)
    assert len(images) == DOCUMENTS * CAPTURES
    files = write_images(images)
    register = tmp_path / "register"
    register.mkdir()
    for document in range(DOCUMENTS):
        shutil.copy(files[labels.index(document)], register / f"{document}.png")

    size = config.common.image_size
    found = ask("docclassifier", model=exported.onnx, size=size, images=files, register=register)
    roc = pair_roc(torch.from_numpy(found["feats"]), torch.tensor(labels))
    assert roc.metrics() == pytest.approx(exported.gate.test.metrics, abs=1e-3)
    right = [name == str(label) for name, label in zip(found["names"], labels, strict=True)]
    assert sum(right) / len(right) > 0.8
