"""`project: lightning`: modules that know nothing of otter_ray are trained, exported and measured."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI

from otter_ray.config import Config, load_config, to_yaml
from otter_ray.errors import ConfigError, DataError, ExportError
from otter_ray.export.evaluation import config_of, measure_checkpoint, read_run_checkpoint
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.lightning.own import OWN
from otter_ray.train.checks.validation import check_config
from otter_ray.train.run_options import RunOptions
from otter_ray.train.trainer import run_training

MODULES = "tests.support.plain_digits"
PLAIN = {
    "project": "lightning",
    "model": {"class_path": f"{MODULES}.LitBlobs", "init_args": {"width": 8, "lr": 0.01}},
    "data": {"class_path": f"{MODULES}.Blobs", "init_args": {"batch_size": 16}},
    "trainer": {"max_epochs": 2, "accelerator": "cpu", "gradient_clip_val": 1.0},
    "metric": "val_acc",
}


def config(**values) -> Config:
    return Config.from_dict(PLAIN, "plain").with_values(
        {key.replace("__", "."): v for key, v in values.items()}
    )


def trained(config, folder, reports=None):
    reports = [] if reports is None else reports
    check_config(config, config.metric)
    return run_training(config, folder, reports.append, RunOptions(metric=config.metric, cpus=1))


def test_a_run_becomes_a_verified_file_on_which_its_own_metric_is_measured(tmp_path):
    plain, reports = config(), []
    best = trained(plain, tmp_path, reports)
    assert len(reports) == 2
    assert {"val_acc", "val_loss", "train_loss"} <= reports[-1].metrics.keys()
    exported = export_checkpoint(best, tmp_path, project=plain.code)
    gate = exported.gate
    best_value = max(report.metrics["val_acc"] for report in reports)
    # The split is random: the same one is validated in training and in the gate.
    assert gate.metrics["val_acc"] == pytest.approx(best_value, abs=1e-6)
    assert gate.images == 60
    assert not gate.unmeasured
    session = onnxruntime.InferenceSession(str(exported.onnx))
    [logits] = session.run(["output"], {"input": np.zeros((5, 1, 8, 8), np.float32)})
    assert logits.shape == (5, 3)
    measured = measure_checkpoint(best, plain.code)
    assert measured.value == pytest.approx(best_value, abs=1e-6)
    facts = json.loads(exported.json.read_text())
    assert facts["data"]["class_path"] == f"{MODULES}.Blobs"


def test_a_file_whose_metric_is_another_is_not_handed_out(tmp_path, monkeypatch):
    plain = config(trainer__max_epochs=1)
    best = trained(plain, tmp_path)
    record = torch.load(best, weights_only=True)
    record["metrics"]["val_acc"] = 0.123
    torch.save(record, best)
    with pytest.raises(
        ExportError, match=r"val_acc measured on the ONNX file is .* the checkpoint's is 0.123"
    ):
        export_checkpoint(best, tmp_path, project=plain.code)
    assert not [*tmp_path.glob("*.onnx")]


def test_the_metric_is_measured_on_the_file_and_not_on_the_module(tmp_path):
    plain = config(trainer__max_epochs=1)
    model = OWN.build_model(plain)
    always_first = torch.tensor([[1.0, 0.0, 0.0]])
    metrics, note = model.measure(lambda inputs: [always_first.repeat(len(inputs[0]), 1)], None, None)
    assert not note
    labels = torch.cat([batch[1] for batch in OWN.build_valid(plain).loader])
    assert metrics["val_acc"] == pytest.approx((labels == 0).float().mean().item(), abs=1e-2)
    assert "forward" not in vars(model.lightning_module)


@pytest.mark.parametrize("name", ["ByHand", "NamesItsOutputs"])
def test_other_ways_to_write_a_module(name, tmp_path):
    clip = {"trainer__gradient_clip_val": None}  # Lightning refuses it for optimization by hand
    lit = config(model={"class_path": f"{MODULES}.{name}"}, trainer__accumulate_grad_batches=1, **clip)
    exported = export_checkpoint(trained(lit, tmp_path), tmp_path, project=lit.code)
    names = [output.name for output in onnxruntime.InferenceSession(str(exported.onnx)).get_outputs()]
    assert names == (["logits", "best"] if name == "NamesItsOutputs" else ["output"])


def test_nested_classes_early_stopping_and_a_resumed_run(tmp_path):
    stopping = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "val_loss", "mode": "max", "patience": 1},
    }
    lit = config(
        model__init_args__activation={"class_path": "torch.nn.GELU"},
        trainer__callbacks=[stopping],
        trainer__accumulate_grad_batches=2,
        trainer__max_epochs=6,
    )
    reports = []
    best = trained(lit, tmp_path, reports)
    assert len(reports) == 2  # the loss falls, and it waits for one that rises
    # An activation is no plain data; the rest of a checkpoint is.
    assert "hyper_parameters" not in read_run_checkpoint(best)
    assert "GELU" in str(OWN.build_model(Config.from_dict(read_run_checkpoint(best)["config"], "plain")))
    longer, last = (
        lit.with_values({"trainer.callbacks": [], "trainer.max_epochs": 3}),
        best.with_name("last.ckpt"),
    )
    run_training(longer, tmp_path, reports.append, RunOptions(metric="val_acc", checkpoint=last, cpus=1))
    assert [report.epoch for report in reports] == [1, 2, 3]


def test_a_validation_that_goes_around_forward_is_told(tmp_path):
    lit = config(model={"class_path": f"{MODULES}.GoesAroundForward"}, trainer__max_epochs=1)
    exported = export_checkpoint(trained(lit, tmp_path), tmp_path, project=lit.code)
    told = "not measured on the file, because GoesAroundForward.validation_step never calls self(...)"
    assert told in str(exported.gate)
    assert told in (tmp_path / "MODEL.md").read_text()


BAD = {
    "model.class_path": {
        f"{MODULES}.LitBlob": "has no class 'LitBlob'. Did you mean 'LitBlobs'",
        "tests.support.plain_digit.LitBlobs": "Did you mean 'plain_digits'",
        "LitBlobs": "Write package.module.Class.",
        f"{MODULES}.Blobs": "is no LightningModule",
    },
    "model.init_args": {
        '{"widht": 3}': "Did you mean 'width'?",
        '{"width": "many"}': "Expected a int. Got value: many",
    },
    "model.init_args.activation": {
        '{"class_path": "torch.nn.GeLU"}': "Did you mean 'GELU'",
        '{"class_path": "torch.nn.GELU", "init_args": {"aproximate": "tanh"}}': "Did you mean 'approximate'?",
    },
    "model": {f'{{"class_path": "{MODULES}.NeverValidates"}}': "has no validation_step"},
    "data": {
        '{"class_path": "lightning.pytorch.LightningDataModule"}': "has no val_dataloader",
        "null": "LitBlobs has no val_dataloader",
    },
    "trainer.gradient_clipval": {"1": "Did you mean 'gradient_clip_val'"},
}


@pytest.mark.parametrize(
    ("key", "value", "told"), [(k, v, t) for k, each in BAD.items() for v, t in each.items()]
)
def test_what_is_wrong_is_told_before_anything_runs(key, value, told):
    with pytest.raises(ConfigError) as caught:
        check_config(config().with_sets([f"{key}={value}"]), "val_acc")
    assert told in str(caught.value)
    assert key in str(caught.value)


def test_a_metric_that_is_never_logged_is_told_with_those_that_are():
    lit = config()
    with pytest.raises(ConfigError) as caught:
        OWN.rehearse_measurement(lit, OWN.build_valid(lit), "val_accuracy")
    assert str(caught.value) == (
        "metric: LitBlobs never logs 'val_accuracy' in its validation. Did you mean 'val_acc'? It logs "
        "val_acc, val_loss. Name one of them, or self.log('val_accuracy', ...) in its validation_step."
    )
    silent = config(model={"class_path": "lightning.pytorch.demos.boring_classes.BoringModel"}, data=None)
    with pytest.raises(
        ConfigError, match=r"BoringModel never logs 'val_acc' in its validation. It logs nothing"
    ):
        OWN.rehearse_measurement(silent, OWN.build_valid(silent), "val_acc")


def test_a_checkpoint_runs_no_code_that_the_users_config_does_not_name(tmp_path):
    lit = config()
    for value in ("os.system", "class_path: os.system", '{class_path: "os\\x2esystem"}'):
        forged = lit.with_values({"model.init_args.activation": value})
        record = {"config": forged.to_dict(), "config_name": "plain"}
        for trusted in (None, "lightning", lit.code):
            with pytest.raises(ExportError, match="whose code would run"):
                config_of(record, tmp_path / "best.ckpt", trusted)
    assert config_of({**record, "config": lit.to_dict()}, tmp_path / "best.ckpt", lit.code) == lit


def test_a_file_of_the_config_keeps_what_it_says(tmp_path):
    file = tmp_path / "plain.yaml"
    file.write_text(
        yaml.safe_dump({**PLAIN, "trainer": {**PLAIN["trainer"], "max_time": None, "logger": None}})
    )
    assert load_config(str(file)) == config()
    file.write_text(to_yaml(config()))
    assert load_config(str(file)) == config()
    with pytest.raises(ConfigError, match=r"dataset: is not a known key"):
        load_config(str(file), ["dataset.train_options.name=Shapes"])


def test_what_lightning_cli_prints_is_a_config(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["main.py"])
    arguments = ["fit", "--model", f"{MODULES}.LitBlobs", "--data", f"{MODULES}.Blobs"]
    with pytest.raises(SystemExit):
        LightningCLI(
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=[*arguments, "--seed_everything=3", "--trainer.max_epochs=1", "--print_config"],
        )
    file = tmp_path / "printed.yaml"
    file.write_text(f"project: lightning\nmetric: val_acc\n{capsys.readouterr().out}")
    printed = load_config(str(file))
    assert printed.get("common.seed") == 3
    assert printed.get("model.init_args.lr") == 0.003
    check_config(printed, "val_acc")
    assert trained(printed.with_values({"trainer.accelerator": "cpu"}), tmp_path / "run").is_file()


def test_what_rounding_can_make_of_a_logged_metric():
    lit = config()
    model = OWN.build_model(lit)
    exact = torch.cat([model.outputs([images])[0] for images, _ in OWN.build_valid(lit).loader]).detach()
    coarse = exact.bfloat16().float()
    found = model.score_range(exact, [coarse], None, "val_loss")
    exactly = model.validated(model.outputs)[0]["val_loss"]
    assert found.low <= exactly <= found.high < found.low + 0.05
    assert model.score_range(exact[:-1], [coarse[:-1]], None, "val_loss") is None


def test_a_validation_loader_without_a_batch():
    empty = config(data={"class_path": f"{MODULES}.NothingToValidate"})
    with pytest.raises(DataError, match="its val_dataloader gives no batch"):
        OWN.onnx_section(empty)
