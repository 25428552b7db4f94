"""A study of a LightningModule that knows nothing of otter_ray."""

import json
import re
from pathlib import Path

import onnxruntime
import yaml

SPACE = """
parameters:
  model.init_args.lr: {type: float, low: 1.0e-3, high: 1.0e-1, log: true}
study:
  metric: val_acc
  num_trials: 2
"""


def test_a_plain_module_is_tuned_exported_and_verified(tune, tmp_path):
    source = Path(__file__).parents[2] / "support" / "plain_digits.py"
    (tmp_path / "plain_digits.py").write_text(source.read_text())
    for folder in ("configs", "search_spaces"):
        (tmp_path / folder).mkdir()
    config = {
        "project": "lightning",
        "model": {"class_path": "plain_digits.LitBlobs", "init_args": {"width": 8, "lr": 0.003}},
        "data": {"class_path": "plain_digits.Blobs"},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "metric": "val_acc",
        "onnx": {"input_names": ["image"], "opset_version": 18},
    }
    (tmp_path / "configs" / "blobs.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "search_spaces" / "blobs.yaml").write_text(SPACE)
    code, output = tune("blobs", "--name", "s", folder=tmp_path).end()
    assert code == 0, output
    assert "180 items to train on, 60 items to validate with" in output
    assert re.search(
        r"gate passed: opset 18, .* on the ONNX file over 60 validation items.*: val_", output
    ), output
    [onnx] = (tmp_path / "runs" / "blobs" / "s").glob("*.onnx")
    assert [each.name for each in onnxruntime.InferenceSession(str(onnx)).get_inputs()] == ["image"]
    facts = json.loads(onnx.with_suffix(".json").read_text())
    assert facts["base"]["value"] is not None
    code, output = tune("blobs", "--name", "t", "--set", "metric=val_accuracy", folder=tmp_path).end()
    assert code == 2
    assert "Make them the same" in output
    assert "Traceback" not in output
