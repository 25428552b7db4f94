import copy
import hashlib
import json
import re
from importlib import metadata

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from otter_ray.config import Config, load_config, to_yaml
from otter_ray.errors import ConfigError, ExportError
from otter_ray.export import exporter as export_run
from otter_ray.export import gate as gate_module
from otter_ray.export import onnx_file, rounding
from otter_ray.export.evaluation import measure_checkpoint
from otter_ray.export.exporter import earlier_export, export_checkpoint, find_checkpoint
from otter_ray.export.gate import LOW_PRECISION_TOLERANCE, METRIC_TOLERANCE
from otter_ray.export.reference import difference
from otter_ray.projects.docclassifier.metrics.bootstrap import interval
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.train.builders import build_held_out
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training
from tests.support.commands import run_here

WRAPPERS = """
from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier import WarpFeatureLearning

class Baked(WarpFeatureLearning):
    "Its batch is a constant of the graph."
    def forward(self, img):
        return super().forward(img).reshape(2, -1)

class Unwrappable(WarpFeatureLearning):
    def forward(self, img):
        raise ValueError("cannot be done")
"""


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    return export_checkpoint(tiny_run.best, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def config(record):
    return Config.from_dict(record["config"], record["config_name"])


@pytest.fixture(scope="module")
def record(tiny_run):
    return torch.load(tiny_run.best, map_location="cpu", weights_only=True)


@pytest.fixture
def refused(tiny_run, tmp_path):
    """Exports, which must fail and leave nothing; gives the message."""

    def export(checkpoint=tiny_run.best, config=None, **options):
        with pytest.raises(ExportError) as caught:
            export_checkpoint(checkpoint, tmp_path / "out", config, **options)
        assert not list((tmp_path / "out").glob("*"))
        return str(caught.value)

    return export


@pytest.fixture
def wrappers(tmp_path, monkeypatch):
    (tmp_path / "wrappers_project.py").write_text(WRAPPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "wrappers_project"


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def embedded(path, config, which=0):
    """(embeddings, labels) of the validation set (1: the test set), as onnxruntime gives them."""
    dataset = build_held_out(config)[which]
    images = np.stack([image.numpy() for image, _ in dataset])
    labels = torch.tensor([label for _, label in dataset])
    return torch.from_numpy(session(path).run(["feats"], {"img": images})[0]), labels


def test_the_file_is_what_the_config_asks_for(exported, config):
    model = onnx.load(str(exported.onnx))
    assert [(entry.domain, entry.version) for entry in model.opset_import if not entry.domain] == [("", 16)]
    (given,), (made,) = model.graph.input, model.graph.output
    assert (given.name, made.name) == ("img", "feats")
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (given, made)
    ]
    assert shapes == [["batch_size", 3, 32, 32], ["batch_size", 128]]
    assert exported.onnx.name.startswith("demo_")
    assert exported.onnx.name.endswith("_fp32.onnx")


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_any_batch_gives_unit_embeddings(exported, batch):
    images = np.random.default_rng(batch).random((batch, 3, 32, 32), np.float32)
    (embeddings,) = session(exported.onnx).run(["feats"], {"img": images})
    assert embeddings.shape == (batch, 128)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_the_metric_on_the_file_is_the_recorded_one(exported, config, record):
    rate, _ = pair_roc(*embedded(exported.onnx, config)).tpr_at(1e-4)
    recorded = record["metrics"]["valid_fpr@4"]
    assert recorded > 0.01
    assert rate == pytest.approx(recorded, abs=1e-6)
    gate = exported.gate
    assert (gate.metrics["valid_fpr@4"], gate.recorded, gate.images) == (rate, recorded, 24)
    assert gate.opset == 16
    assert {1, 2} < set(gate.batches)
    assert gate.output_difference < 1e-4


def test_the_figure_has_an_interval(exported, config):
    low, high = exported.gate.interval
    assert 0 <= low < exported.gate.metrics["valid_fpr@4"] < high <= 1
    assert (low, high) == interval(*embedded(exported.onnx, config), "valid_fpr@4")
    assert f"(95 % interval {low:.2f} to {high:.2f}), valid_pauc@2" in str(exported.gate)


def test_the_test_split_is_what_is_announced(exported, config):
    rate, _ = pair_roc(*embedded(exported.onnx, config, 1)).tpr_at(1e-4)
    told = json.loads(exported.json.read_text())["gate"]["test"]
    assert told["metrics"]["valid_fpr@4"] == rate != exported.gate.metrics["valid_fpr@4"]
    assert (told["images"], told["classes"], told["kept_out"], told["earlier"]) == (20, 5, True, [])
    text = exported.gate.announcement()
    assert text.startswith(f"test: valid_fpr@4 {rate:.4f} (95 % interval ")
    assert text.endswith("on 20 images of 5 classes that the search never saw")
    assert "24 validation images, which the search selected on" in str(exported.gate)


def test_a_second_look_at_the_test_split_is_told(tiny_run, tmp_path):
    first = export_checkpoint(tiny_run.best, tmp_path)
    again = export_checkpoint(tiny_run.best, tmp_path)
    date = json.loads(first.json.read_text())["date"]
    assert (
        again.gate.announcement()
        == f"{first.gate.announcement()}; evaluated before on {date}: this is look 2"
    )


def test_a_test_split_that_training_did_not_leave_out_is_told(tiny_run, config, tmp_path):
    other = config.with_values({"dataset.test_options.options.drawn_seed": 5})
    text = export_checkpoint(tiny_run.best, tmp_path / "other", other).gate.announcement()
    assert text.endswith("on 20 images of 5 classes that training may have seen")
    data = config.to_dict()
    del data["dataset"]["test_options"]
    gate = export_checkpoint(tiny_run.best, tmp_path / "none", Config.from_dict(data, config.name)).gate
    assert (gate.test, gate.announcement()) == (None, None)
    assert "selected on" not in str(gate)


def test_a_checkpoint_is_measured_as_the_gate_measures(exported, tiny_run):
    measured = measure_checkpoint(tiny_run.best)
    assert measured.value == exported.gate.pytorch_metrics["valid_fpr@4"]
    assert measured.interval == pytest.approx(exported.gate.interval, abs=1e-6)


def test_metadata_says_where_the_file_comes_from(exported, config, record, tiny_run):
    told = json.loads(exported.json.read_text())
    assert told["config_sha256"] == hashlib.sha256(to_yaml(config).encode()).hexdigest()
    assert told["onnx_sha256"] == hashlib.sha256(exported.onnx.read_bytes()).hexdigest()
    assert told["checkpoint"] == str(tiny_run.best)
    assert (told["metric"], told["epoch"]) == ("valid_fpr@4", record["epoch"] + 1)
    assert told["gate"]["recorded"] == record["metrics"]["valid_fpr@4"]
    assert told["gate"]["metrics"]["valid_fpr@4"] == pytest.approx(told["gate"]["recorded"], abs=1e-6)
    assert told["versions"]["torch"] == metadata.version("torch")
    assert {"onnx", "onnxruntime", "lightning", "timm", "otter_ray"} < told["versions"].keys()


def test_every_value_of_the_metadata_is_json(exported):
    """As clients read it that parse each value, texts included."""
    props = {entry.key: entry.value for entry in onnx.load(str(exported.onnx)).metadata_props}
    told = json.loads(exported.json.read_text())
    del told["onnx_sha256"]  # of the file with its metadata
    assert {key: json.loads(value) for key, value in props.items()} == told


def test_a_file_for_bgr_answers_as_the_one_for_rgb(exported, tiny_run, config, tmp_path):
    made = export_checkpoint(
        tiny_run.best, tmp_path, config.with_values({"onnx.wrapper_options.channels": "bgr"})
    )
    images = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    (first,) = session(exported.onnx).run(["feats"], {"img": images})
    (second,) = session(made.onnx).run(["feats"], {"img": images[:, ::-1]})
    np.testing.assert_allclose(second, first, atol=1e-6)
    # The gate fed the validation set as BGR.
    assert made.gate.metrics == pytest.approx(exported.gate.metrics, abs=1e-6)
    card, facts = (tmp_path / "MODEL.md").read_text(), json.loads(made.json.read_text())
    assert facts["channels"] == "bgr"
    assert "blue, green, red, as OpenCV reads images" in card
    assert "::-1" not in facts["example"]
    assert json.loads(exported.json.read_text())["channels"] == "rgb"
    assert "red, green, blue" in (exported.onnx.parent / "MODEL.md").read_text()


def test_an_order_of_channels_that_there_is_not(tiny_run, config, tmp_path):
    wrong = config.with_values({"onnx.wrapper_options.channels": "rbg"})
    with pytest.raises(ConfigError, match=r"onnx.wrapper_options.channels: 'rbg' is not an order of colour"):
        export_checkpoint(tiny_run.best, tmp_path / "out", wrong)


def test_flops_and_parameters_are_counted(exported):
    told = json.loads(exported.json.read_text())
    assert told["flops"] == 2 * told["macs"] > 100_000
    weights = onnx.load(str(exported.onnx)).graph.initializer
    stored = sum(int(np.prod(weight.dims)) for weight in weights)
    # Folding BatchNorm into convolutions moves a few numbers, no more.
    assert told["parameters"] == pytest.approx(stored, rel=0.1)


def test_an_export_never_overwrites_another(exported, tiny_run):
    before = exported.onnx.read_bytes()
    again = export_checkpoint(tiny_run.best, exported.onnx.parent)
    assert again.onnx.name == exported.onnx.name.replace(".onnx", "-2.onnx")
    assert again.json.stem == again.onnx.stem
    assert exported.onnx.read_bytes() == before


def test_raw_embeddings_on_request(exported, tiny_run, config, tmp_path):
    raw = export_checkpoint(
        tiny_run.best, tmp_path, config.with_values({"onnx.wrapper_options.normalize": False})
    )
    (first, _), (second, _) = embedded(exported.onnx, config), embedded(raw.onnx, config)
    assert not torch.allclose(second.norm(dim=1), torch.ones(24), atol=0.1)
    torch.testing.assert_close(torch.nn.functional.normalize(second), first, atol=1e-4, rtol=1e-4)


def test_a_leftover_in_dynamic_axes_costs_nothing_but_a_warning(tiny_run, config, tmp_path):
    leftover = {"img": {"0": "batch_size"}, "output": {"0": "batch_size"}}
    with pytest.warns(UserWarning, match=r"onnx.dynamic_axes names 'output'.*\(img, feats\), and is ignored"):
        made = export_checkpoint(tiny_run.best, tmp_path, config.with_values({"onnx.dynamic_axes": leftover}))
    (output,) = onnx.load(str(made.onnx)).graph.output
    assert output.type.tensor_type.shape.dim[0].dim_param == "batch_size"


def test_without_dynamic_axes_the_batch_is_dynamic_all_the_same(tiny_run, config, tmp_path):
    made = export_checkpoint(tiny_run.best, tmp_path, config.with_values({"onnx.dynamic_axes": {}}))
    images = np.zeros((5, 3, 32, 32), np.float32)
    assert session(made.onnx).run(None, {"img": images})[0].shape == (5, 128)


def test_an_opset_that_is_not_honoured(refused, monkeypatch):
    export = torch.onnx.export

    def silently_newer(*arguments, **options):
        return export(*arguments, **{**options, "opset_version": 17})

    monkeypatch.setattr(torch.onnx, "export", silently_newer)
    assert "the file has opset 17, not the 16 asked for" in refused()


@pytest.mark.filterwarnings("ignore:Exporting to ONNX opset version 99")
@pytest.mark.parametrize("options", [{"opset_version": 99}, {"opset_version": 16, "no_such_option": 1}])
def test_options_that_the_exporter_refuses(refused, config, options):
    assert "cannot be traced to ONNX" in refused(config=config.with_values({"onnx.options": options}))


def test_weights_that_changed_after_tracing(refused, monkeypatch):
    def write_then_change(config, wrapped, path):
        onnx_file.write_onnx(config, wrapped, path)
        with torch.no_grad():
            wrapped.head.embed[-1].bias.add_(0.3)

    monkeypatch.setattr(export_run, "write_onnx", write_then_change)
    assert "differs from the PyTorch model by" in refused()


def test_a_file_that_is_no_onnx(refused, monkeypatch):
    def write_half(config, wrapped, path):
        onnx_file.write_onnx(config, wrapped, path)
        model = onnx.load(str(path))
        del model.graph.node[3]
        onnx.save(model, str(path))

    monkeypatch.setattr(export_run, "write_onnx", write_half)
    assert "is not a valid ONNX file" in refused()


def test_a_batch_that_is_baked_in(refused, config, wrappers):
    baked = config.with_values({"project": wrappers, "onnx.name": "Baked"})
    assert "output 'feats' has 2 rows for a batch of 1" in refused(config=baked)


def test_a_wrapper_that_cannot_be_traced(refused, config, wrappers):
    wrong = config.with_values({"project": wrappers, "onnx.name": "Unwrappable"})
    assert "cannot be traced to ONNX: cannot be done" in refused(config=wrong)


@pytest.fixture
def altered(record, tmp_path):
    """Writes the run's checkpoint anew with these entries changed."""

    def write(**changes):
        path = tmp_path / "altered.ckpt"
        torch.save({**record, **changes}, path)
        return path

    return write


@pytest.fixture
def close_together(altered, record):
    """A checkpoint whose embeddings differ by little more than float32 can tell, beside a large bias."""
    weights = dict(record["state_dict"])
    last = max(name for name in weights if name.startswith("head.embed.") and name.endswith(".bias"))
    weights[last] = weights[last] + 1000
    return altered(state_dict=weights)


def test_a_metric_that_rounding_decides_is_accepted_with_a_word(close_together, tmp_path):
    exported = export_checkpoint(close_together, tmp_path / "out")
    gate = exported.gate
    assert gate.output_difference < 1e-4
    assert abs(gate.metrics["valid_fpr@4"] - gate.recorded) > METRIC_TOLERANCE
    said = (
        r"rounding decides valid_fpr@4 between 0(\.\d+)? and (0\.\d+|1): the validation set has 60 positive"
    )
    assert re.match(said, gate.rounding)
    assert gate.rounding in str(gate)
    assert json.loads(exported.json.read_text())["gate"]["rounding"] == gate.rounding
    assert earlier_export(close_together, tmp_path / "out").onnx == exported.onnx


def test_a_small_validation_set_and_a_barely_trained_model_pass(tmp_path):
    """Its 84 positive pairs lie so close together that the file may order them otherwise than PyTorch."""
    changes = {
        "trainer.max_epochs": 1,
        "common.seed": 2,
        "dataset.train_options.options.drawn": 40,
        "dataset.train_options.options.length_of_dataset": 512,
        "dataset.valid_options.options.drawn": 40,
        "dataset.valid_options.options.held_out": 14,
        "dataset.valid_options.options.captures": 4,
        "dataset.test_options": None,
    }
    config = load_config("demo").with_values(changes)
    best = run_training(config, tmp_path / "run", lambda epoch: None, RunOptions(cpus=1), RunHooks())
    gate = export_checkpoint(best, tmp_path / "out").gate
    assert gate.images == 56
    file, others = gate.metrics["valid_fpr@4"], (gate.pytorch_metrics["valid_fpr@4"], gate.recorded)
    differs = any(abs(file - other) > METRIC_TOLERANCE for other in others)
    assert differs == ("the validation set has 84 positive pairs" in gate.rounding), (file, others)


def test_rounding_excuses_no_file_of_other_weights(close_together, refused, monkeypatch, tmp_path):
    """All weights are off by a thousandth: outputs stay within the gate's tolerance of a unit vector."""

    def write_another(config, wrapped, path):
        other = copy.deepcopy(wrapped)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in other.parameters():
                weight.mul_(1 + 1e-3 * torch.randn(weight.shape, generator=generator))
        onnx_file.write_onnx(config, other, path)

    monkeypatch.setattr(export_run, "write_onnx", write_another)
    monkeypatch.setattr(gate_module, "OUTPUT_TOLERANCE", 1e-2)  # else that alone refuses it
    message = refused(close_together)
    assert "valid_fpr@4 measured on the ONNX file is" in message
    assert message.endswith("they differ by more than 0.001")
    monkeypatch.setattr(rounding, "ROUNDING_FACTOR", np.inf)
    assert "rounding decides" in export_checkpoint(close_together, tmp_path / "accepted").gate.rounding


def test_an_earlier_versions_export_is_still_one(exported, tiny_run):
    facts = json.loads(exported.json.read_text())
    exported.json.write_text(json.dumps({**facts, "gate": {**facts["gate"], "rounding": ""}}))
    del facts["gate"]["rounding"]
    exported.json.write_text(json.dumps(facts))
    assert earlier_export(tiny_run.best, exported.onnx.parent).gate.rounding == ""


@pytest.mark.parametrize("shift", [-0.1, 2 * METRIC_TOLERANCE, float("nan")])
def test_a_recorded_metric_that_does_not_match(refused, altered, record, shift):
    metrics = {**record["metrics"], "valid_fpr@4": record["metrics"]["valid_fpr@4"] + shift}
    message = refused(altered(metrics=metrics))
    assert "valid_fpr@4 measured on the ONNX file is" in message
    assert "the checkpoint's is" in message


def test_training_in_low_precision_may_differ_a_little(altered, refused, record, tmp_path):
    metrics = {
        **record["metrics"],
        "valid_fpr@4": record["metrics"]["valid_fpr@4"] - LOW_PRECISION_TOLERANCE / 2,
    }
    low = altered(metrics=metrics, scored_in="bfloat16")
    assert export_checkpoint(low, tmp_path / "low").onnx.is_file()
    assert "the checkpoint's is" in refused(altered(metrics=metrics))


def test_an_output_is_measured_by_the_scale_of_its_own_image():
    expected = torch.tensor([[1000.0, 3.0], [0.5, 0.1]])
    assert difference(np.float32([[1000, 3.1], [0.5, 0.1]]), expected) == pytest.approx(1e-4, rel=1e-3)
    assert difference(np.float32([[1000, 3], [0.5, 0.3]]), expected) == pytest.approx(0.2)
    assert np.isnan(difference(np.float32([[1000, 3], [np.nan, 0.3]]), expected))
    with pytest.raises(ExportError, match=r"gives \[2, 2, 1\] where PyTorch gives \[2, 2\]"):
        difference(expected.numpy()[..., None], expected)


def test_a_metric_that_was_not_logged(refused):
    assert "logged no 'accuracy'. It logged" in refused(metric="accuracy")


def test_a_corrupt_checkpoint(refused, tiny_run, tmp_path):
    half = tmp_path / "half.ckpt"
    half.write_bytes(tiny_run.best.read_bytes()[:5000])
    assert "cannot be read as a checkpoint" in refused(half)


def test_a_file_that_is_no_checkpoint(refused, tmp_path):
    text = tmp_path / "notes.ckpt"
    text.write_text("not a checkpoint")
    assert "cannot be read as a checkpoint" in refused(text)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], 7])
def test_a_checkpoint_of_someone_else(refused, tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    message = refused(tmp_path / "other.ckpt")
    assert "was not written by otter_ray: it lacks config" in message
    assert "python -m otter_ray.train" in message


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"onnx.name": "WrapFeatureLearning"}, "onnx.name: no class 'WrapFeatureLearning'"),
        ({"onnx.input_names": ["image"]}, "onnx.input_names has 'image' but onnx.input_shape does not"),
        ({"onnx.input_shape.img.dtype": "float33"}, "onnx.input_shape.img.dtype"),
        ({"onnx.input_shape.img.shape": [1, 3, -1, -1]}, "only the first, the batch, may be -1"),
        ({"onnx.wrapper_options": {"normalise": True}}, "Did you mean 'normalize'"),
    ],
)
def test_an_onnx_section_that_cannot_be(refused, config, values, says):
    assert says in refused(config=config.with_values(values))


def test_no_onnx_section(refused, config):
    data = config.to_dict()
    del data["onnx"]
    assert "demo has no `onnx:` section" in refused(config=Config.from_dict(data, "demo"))


def test_where_a_checkpoint_is_looked_for(tiny_run, tmp_path):
    assert find_checkpoint(tiny_run.folder) == find_checkpoint(tiny_run.best) == tiny_run.best
    study = tmp_path / "study"
    study.mkdir()
    with pytest.raises(
        ExportError, match=r"no checkpoint at .*study/checkpoints/best.ckpt or .*study/best.ckpt"
    ):
        find_checkpoint(study)
    (study / "best.ckpt").write_bytes(b"")
    assert find_checkpoint(study) == study / "best.ckpt"


def test_the_command(tiny_run, tmp_path):
    done = run_here("otter_ray.export", tiny_run.folder, "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("*.onnx")
    assert f"onnx: {made}" in done.stdout
    assert "gate passed: opset 16, batches 1, 2, 7" in done.stdout
    assert made.with_suffix(".json").is_file()
