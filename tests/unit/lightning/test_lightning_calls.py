"""What a validation calls the network with decides what is exported, however the batches look."""

import logging
from collections import UserDict
from types import MappingProxyType

import onnxruntime
import pytest
import torch

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.export.comparison.gain import measured_winner
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.lightning.data import Split
from otter_ray.projects.lightning.own import OWN
from otter_ray.projects.lightning.structure import take_apart
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
    assert gate.metrics["val_acc/dataloader_idx_0"] != gate.metrics["val_acc/dataloader_idx_1"]
    assert not gate.unmeasured
    assert gate.images == 12 + 8
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
    # For the gain: no forward of PyTorch has been seen there.
    winner = measured_winner(found.onnx, next(tmp_path.rglob("best*.ckpt")), lit.code)
    assert winner.network.score(winner.predictions, "val_acc").value == found.gate.metrics["val_acc"]


def test_a_limit_of_the_validation_is_the_exports_too(tmp_path):
    found, logged = exported(
        config("", trainer__limit_val_batches=1, data__init_args__batch_size=8), tmp_path
    )
    assert found.gate.images == 8
    assert found.gate.metrics["val_acc"] == pytest.approx(logged["val_acc"], abs=1e-6)


def test_a_model_that_is_compiled_is_exported(tmp_path):
    found, logged = exported(config("CompilesItself"), tmp_path)
    assert found.gate.metrics["val_acc"] == pytest.approx(logged["val_acc"], abs=1e-6)


def test_arguments_are_given_as_the_validation_gives_them():
    lit = config("LeavesOneOut")
    model = OWN.build_model(lit).eval()
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model.outputs([images])[0], model.lightning_module(images, doubled=True))


def test_named_elements_are_the_arguments_that_they_are_in_the_validation():
    lit = config("TakesBoth", onnx={"inputs": [0, 1]})
    model = OWN.build_model(lit).eval()
    assert OWN.onnx_section(lit).input_names == ["x", "shift"]
    images, labels = next(iter(OWN.build_valid(lit).loader))
    expected = model.lightning_module(labels, images)
    torch.testing.assert_close(model.outputs([images, labels])[0], expected)
    [(call, _)] = OWN.evaluation_loader(lit, OWN.build_valid(lit))
    assert [tensor.shape for tensor in call.tensors] == [images.shape, labels.shape]
    seen = []
    model.validated(lambda inputs: seen.append(inputs) or model.outputs(inputs))
    assert torch.equal(seen[0][0], images)


def test_a_value_of_the_first_call_that_changes_is_refused():
    lit = config("ChangesItsGain", data__init_args__batch_size=8)
    model = OWN.build_model(lit)
    told = r"model: ChangesItsGain calls forward with gain=2.0, and .* with gain=1.0, which"
    with pytest.raises(ConfigError, match=told):
        model.validated(model.outputs)


def test_loaders_that_are_run_together():
    lit = config("TakesPairs", "PairedBlobs", data__init_args__batch_size=8)
    for limit, sizes in ((None, [12, 8]), (0.5, [12])):
        each = lit.with_values({"trainer.limit_val_batches": limit}) if limit else lit
        calls = [call for call, _ in OWN.evaluation_loader(each, OWN.build_valid(each))]
        assert [len(call.tensors[0]) for call in calls] == sizes
        model = OWN.build_model(each)
        assert model.validated(model.outputs)[1] == len(sizes)


def test_a_step_that_fails_is_named():
    lit = config("FailsFirst")
    told = r"model: FailsFirst.validation_step fails on batch 0 of the validation set: .*in another file"
    with pytest.raises(ConfigError, match=told):
        OWN.onnx_section(lit)


def test_a_test_that_goes_around_forward_is_told(tmp_path):
    found, _ = exported(config("TestsAround", "TestedBlobs"), tmp_path)
    told = "not measured on the file, because TestsAround.test_step never calls self(...)"
    assert told in found.gate.announcement()
    assert told in (tmp_path / "MODEL.md").read_text()
    assert not found.gate.unmeasured


def test_names_of_inputs_and_outputs_do_not_clash():
    lit = config("NamesBothAlike", "DictBlobs")
    section = OWN.onnx_section(lit)
    assert (section.input_names, section.output_names) == (["image", "scale"], ["output_0"])
    both = lit.with_values({"onnx": {"input_names": ["a", "b"], "output_names": ["b"]}})
    with pytest.raises(ConfigError, match=r"onnx.output_names: has b, the name of an input and of an output"):
        OWN.onnx_section(both)


def test_a_limit_that_cannot_be_meant():
    with pytest.raises(ConfigError, match=r"trainer.limit_val_batches: is 0: nothing is validated"):
        check_config(config("", trainer__limit_val_batches=0), "val_acc")
    with pytest.raises(ConfigError, match=r"trainer.limit_val_batches: is 0.5, .* Give a number of batches"):
        list(Split(None, [iter(())], 0.5).batches())


class Encoding(UserDict):
    """As of tokenizers: its keys are no arguments."""

    def __init__(self, data=None, encoding=None):
        super().__init__(data)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(Encoding({"ids": torch.ones(2)}), Encoding), (MappingProxyType({"ids": torch.ones(2)}), dict)],
)
def test_mappings_that_their_keys_cannot_build(value, kind):
    tensors, structure = take_apart(value)
    assert [*tensors[0]] == [1, 1]
    made = structure.filled([torch.zeros(2)])
    assert type(made) is kind
    assert [*made["ids"]] == [0, 0]
    assert [*value["ids"]] == [1, 1]
