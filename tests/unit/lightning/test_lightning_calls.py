"""What a validation calls the network with decides what is exported, however the batches look."""

import logging

import onnxruntime
import pytest
import torch

from otter_ray.config import Config
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.lightning.own import OWN
from otter_ray.train.checks.validation import check_config
from otter_ray.train.run_options import RunOptions
from otter_ray.train.trainer import run_training

CASES = "tests.support.plain_cases"
PLAIN = {
    "project": "lightning",
    "model": {"class_path": "tests.support.plain_digits.LitBlobs"},
    "data": {"class_path": "tests.support.plain_digits.Blobs", "init_args": {"batch_size": 16, "count": 48}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "metric": "val_acc",
}


def config(model: str, data: str = "", **values) -> Config:
    given = {**PLAIN, "model": {"class_path": f"{CASES}.{model}"} if model else PLAIN["model"]}
    if data:
        given["data"] = {**PLAIN["data"], "class_path": f"{CASES}.{data}"}
    return Config.from_dict(given, "plain").with_values({k.replace("__", "."): v for k, v in values.items()})


def exported(lit, folder):
    """Check, rehearse, train and export."""
    reports = []
    check_config(lit, lit.metric)
    OWN.rehearse_measurement(lit, OWN.build_valid(lit), lit.metric)
    best = run_training(lit, folder, reports.append, RunOptions(metric=lit.metric, cpus=1))
    return export_checkpoint(best, folder, project=lit.code), reports[-1].metrics


def test_several_validation_loaders_and_a_test(tmp_path):
    lit = config("TakesSeveral", "SeveralLoaders", metric="val_acc/dataloader_idx_1")
    found, logged = exported(lit.with_values({"test_metric": "test_acc"}), tmp_path)
    gate = found.gate
    assert gate.metrics["val_acc/dataloader_idx_1"] == pytest.approx(logged["val_acc/dataloader_idx_1"])
    assert "val_acc/dataloader_idx_0" in gate.metrics
    assert not gate.unmeasured
    assert gate.images == 2 * len(OWN.build_valid(lit).loader.dataset)
    test = gate.test
    assert test.images == len(OWN.build_datasets(lit)[0])
    assert test.metrics["val_acc/dataloader_idx_1"] == test.metrics["test_acc"]
    assert "test_acc" not in gate.metrics
    assert gate.announcement()


def test_a_test_is_found_by_its_name_or_left_out(caplog):
    lit = config("TakesSeveral", "TestedBlobs")
    test = OWN.build_test(lit, None)
    assert test.is_test
    assert len(test) == len(OWN.build_datasets(lit)[0])
    with caplog.at_level(logging.WARNING):
        assert OWN.build_test(config("TestsElse", "TestedBlobs"), None) is None
    assert "It logs error. Name one of them: test_metric." in caplog.text
    assert OWN.build_test(config("TestsElse", "TestedBlobs", test_metric="error"), None).is_test
    assert OWN.build_test(config("", "TestedBlobs"), None) is None  # no test_step


@pytest.mark.parametrize(
    ("model", "data", "inputs", "outputs"),
    [
        ("TakesMapping", "DictBlobs", ["image", "scale"], ["logits"]),
        ("FlattensFirst", "", ["input"], ["output"]),
        ("HasAnExample", "", ["input"], ["output"]),
    ],
)
def test_what_the_network_takes_is_seen_in_the_validation(model, data, inputs, outputs, tmp_path):
    lit = config(model, data)
    found, logged = exported(lit, tmp_path)
    session = onnxruntime.InferenceSession(str(found.onnx))
    assert [each.name for each in session.get_inputs()] == inputs
    assert [each.name for each in session.get_outputs()] == outputs
    assert found.gate.metrics["val_acc"] == pytest.approx(logged["val_acc"], abs=1e-6)
    assert bool(found.gate.unmeasured) == (model == "HasAnExample")
    shape = session.get_inputs()[0].shape
    assert shape[1:] == ([1, 8, 8] if model == "TakesMapping" else [64])


def test_a_limit_of_the_validation_is_the_exports_too(tmp_path):
    found, logged = exported(
        config("", trainer__limit_val_batches=1, data__init_args__batch_size=8), tmp_path
    )
    assert found.gate.images == 8
    assert found.gate.metrics["val_acc"] == pytest.approx(logged["val_acc"], abs=1e-6)


def test_a_model_that_is_compiled_is_exported():
    lit = config("")
    model = OWN.build_model(lit)
    module = model.lightning_module
    module.net = torch.compile(module.net, backend="eager")
    assert not any("Optimized" in type(part).__name__ for part in OWN.wrap(lit, model).modules())
