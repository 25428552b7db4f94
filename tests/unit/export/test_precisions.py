"""Files of lower precision next to an exported model."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from otter_ray.config import Config
from otter_ray.config.lightning_config import LightningConfig
from otter_ray.config.schema import OWN_META_INFO, Quantize
from otter_ray.direction import Direction
from otter_ray.errors import ConfigError, ExportError
from otter_ray.export.comparison.network import checkpoint_network
from otter_ray.export.exporter import export_checkpoint
from otter_ray.export.model_files import free_name, move_model, precision_file, read_facts, remove_orphans
from otter_ray.export.precision import calibration, files
from otter_ray.export.precision.conversion import Int8Converter
from otter_ray.export.precision.files import add_precisions
from otter_ray.export.precision.request import asked_precisions, direction_of
from otter_ray.train.checks.validation import check_config
from tests.support.commands import run_here

ASKED = Quantize.model_validate(
    {"do_quant": True, "calibration": {"images": 24, "method": "minmax"}, "max_loss": 1}
)
LOWER = ("fp16", "int8")


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """An export with all of its files."""
    found = export_checkpoint(tiny_run.best, tmp_path_factory.mktemp("precisions"))
    add_precisions(found.onnx, tiny_run.best, ASKED, Direction.MAX)
    return found


def test_each_file_is_measured_on_the_same_images(exported):
    fp32, fp16, int8 = rows = exported.facts["precisions"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    assert [row["reason"] for row in rows] == [""] * 3
    assert fp32["value"] == pytest.approx(exported.gate.metrics["valid_fpr@4"])
    assert fp32["test"] == pytest.approx(exported.gate.test.metrics["valid_fpr@4"])
    assert int8["bytes"] < fp16["bytes"] < fp32["bytes"]
    assert "smallest" in int8["advice"]
    assert sum("fastest" in row["advice"] for row in rows) == 1
    for row in (fp16, int8):
        assert row["loss"]["value"] == pytest.approx(fp32["value"] - row["value"])
        file = precision_file(exported.onnx, row["precision"])
        assert file.name == row["file"]
        assert re.search(rf"demo_\d{{8}}_{row['precision']}\.onnx", file.name)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(str(file)).metadata_props}
        assert metadata["precision"] == row["precision"]
        assert metadata["checkpoint_sha256"] == exported.facts["checkpoint_sha256"]


@pytest.mark.parametrize("precision", LOWER)
def test_a_file_takes_and_gives_what_the_fp32_file_does(exported, precision):
    images = np.random.default_rng(0).random((5, 3, 32, 32), dtype=np.float32)
    outputs = []
    for file in (exported.onnx, precision_file(exported.onnx, precision)):
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        outputs += session.run(["feats"], {"img": images})
    assert outputs[1].dtype == np.float32
    similarity = (outputs[0] * outputs[1]).sum(axis=1)
    assert similarity.mean() > (0.999 if precision == "fp16" else 0.6)  # noise, which no range knows
    assert not np.array_equal(*outputs)


@pytest.mark.parametrize("precision", LOWER)
def test_the_cards_example_runs_with_each_file(exported, precision, tmp_path):
    card = (exported.onnx.parent / "MODEL.md").read_text()
    file = precision_file(exported.onnx, precision).name
    assert f"{file}" in card
    assert "| precision | size | latency | metric | loss | test | file |" in card
    compare, search = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    for name in ("0.png", "1.png"):
        Image.fromarray(np.random.default_rng(int(name[0])).integers(0, 256, (50, 50, 3), np.uint8)).save(
            tmp_path / name
        )
    assert len(search.splitlines()) <= 10

    def printed(code, *names):
        line = [sys.executable, "-c", code.replace(exported.onnx.name, file), *map(str, names)]
        done = subprocess.run(line, cwd=exported.onnx.parent, capture_output=True, text=True, check=True)
        return done.stdout

    first, second = tmp_path / "0.png", tmp_path / "1.png"
    similarity = float(printed(compare, first, second).removeprefix("similarity "))
    scores = [line.split() for line in printed(search, second, first, second).splitlines()]
    assert [path for _, path in scores] == [str(second), str(first)]
    assert float(scores[0][0]) == pytest.approx(1, abs=1e-3)
    assert float(scores[1][0]) == pytest.approx(similarity, abs=1e-3)


def test_what_is_there_is_not_made_again_and_a_changed_file_is(exported, tiny_run, monkeypatch):
    made = []
    monkeypatch.setattr(files, "build_valid", lambda config: made.append(config) or 1 / 0)
    assert add_precisions(exported.onnx, tiny_run.best, ASKED, Direction.MAX) == exported.facts["precisions"]
    assert not made
    file = precision_file(exported.onnx, "int8")
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(ZeroDivisionError):
        add_precisions(exported.onnx, tiny_run.best, ASKED, Direction.MAX)
    file.write_bytes(content)


def test_a_file_that_cannot_be_made_or_loses_too_much_leaves_its_reason(tiny_run, tmp_path, monkeypatch):
    found = export_checkpoint(tiny_run.best, tmp_path)
    content = found.onnx.read_bytes()

    def fail(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(files, "to_float16", fail)
    layers = files.Int8Converter.nodes.fget
    monkeypatch.setattr(files.Int8Converter, "nodes", property(lambda self: layers(self)[:4]))
    # Whatever is quantized is worse by 0.5.
    monkeypatch.setattr(files, "gain_of", lambda *_: {"value": 0.5, "interval": [0.4, 0.6]})
    monkeypatch.setattr(files, "PATIENCE", 1)
    strict = ASKED.model_copy(update={"max_loss": 0.01})
    _, fp16, int8 = add_precisions(found.onnx, tiny_run.best, strict, Direction.MAX)
    assert fp16["reason"] == "it cannot be made: RuntimeError: no such operator"
    assert int8["reason"] == "it loses 0.5000 of valid_fpr@4, more than max_loss (0.01)"
    assert [path.name for path in tmp_path.glob("*.onnx")] == [found.onnx.name]
    assert found.onnx.read_bytes() == content
    card = (tmp_path / "MODEL.md").read_text()
    assert "not handed out: it loses 0.5000" in card
    assert not [*tmp_path.glob("*.partial")]


def test_only_a_file_that_is_handed_out_sees_the_test_split(tiny_run, tmp_path, monkeypatch):
    found = export_checkpoint(tiny_run.best, tmp_path)
    tested, whole = [], files._Bench._tested
    monkeypatch.setattr(files._Bench, "_tested", lambda *each: tested.append(each) or whole(*each))
    monkeypatch.setattr(files._Bench, "_loss", lambda *_: {"value": 0.5, "interval": None})
    layers = files.Int8Converter.nodes.fget
    monkeypatch.setattr(files.Int8Converter, "nodes", property(lambda self: layers(self)[:1]))
    strict = ASKED.model_copy(update={"max_loss": 0.01, "precisions": ["int8"]})
    fp32, int8 = add_precisions(found.onnx, tiny_run.best, strict, Direction.MAX)
    assert int8["reason"]
    assert fp32["test"] == found.gate.test.metrics["valid_fpr@4"]  # the gate's
    assert (int8["test"], tested) == (None, [])


def test_a_file_that_overflows_on_a_test_image_is_handed_out_all_the_same(tiny_run, tmp_path, monkeypatch):
    """The test split decides nothing."""
    found = export_checkpoint(tiny_run.best, tmp_path)
    build = files.build_test

    def build_loud(*given):
        test = build(*given)
        quiet = type(test).__getitem__
        loud = {
            "__getitem__": lambda self, index: (quiet(self, index)[0] * float("inf"), quiet(self, index)[1])
        }
        test.__class__ = type("Loud", (type(test),), loud)
        return test

    monkeypatch.setattr(files, "build_test", build_loud)
    asked = ASKED.model_copy(update={"precisions": ["fp16"]})
    fp32, fp16 = add_precisions(found.onnx, tiny_run.best, asked, Direction.MAX)
    assert fp32["test"] == found.gate.test.metrics["valid_fpr@4"]
    assert (fp16["reason"], fp16["test"]) == ("", None)
    assert precision_file(found.onnx, "fp16").is_file()


def test_the_gates_predictions_are_not_computed_again(tiny_run, tmp_path, monkeypatch):
    found = export_checkpoint(tiny_run.best, tmp_path)
    asked = ASKED.model_copy(update={"precisions": ["fp16"]})
    runs = []
    loader_of = files.evaluation_loader
    monkeypatch.setattr(files, "evaluation_loader", lambda *each: runs.append(each) or loader_of(*each))
    again = tmp_path / "again"
    again.mkdir()
    for path in (found.onnx, found.json):
        (again / path.name).write_bytes(path.read_bytes())
    kept = {"predictions": found.predictions}
    fp32, _ = add_precisions(found.onnx, tiny_run.best, asked, Direction.MAX, **kept)
    assert fp32["value"] == pytest.approx(found.gate.metrics["valid_fpr@4"])
    assert not runs
    measured = add_precisions(again / found.onnx.name, tiny_run.best, asked, Direction.MAX)[0]["value"]
    assert measured == fp32["value"]
    assert len(runs) == 1


def test_an_output_that_the_metric_does_not_see_must_be_finite_too():
    def run(inputs):
        return [torch.ones(2, 3), torch.tensor([[1.0], [float("inf")]])]

    with pytest.raises(ExportError, match="its output 'has_obj' has values that are not finite"):
        files._finite(run, ["points", "has_obj"], [])
    assert len(files._finite(lambda inputs: run(inputs)[:1], ["points"], [])) == 1


@pytest.mark.parametrize("method", ["percentile", "entropy", "minmax"])
def test_each_way_to_find_ranges(exported, method, tmp_path):
    """Outliers widen the range of `minmax` alone."""
    rng = np.random.default_rng(0)
    batches = [{"img": rng.random((4, 3, 32, 32), dtype=np.float32)} for _ in range(3)]
    converter = Int8Converter(exported.onnx, tmp_path, batches, method)
    converter.write(tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.run(["feats"], batches[0])
    exact = onnxruntime.InferenceSession(str(exported.onnx), providers=["CPUExecutionProvider"])
    (wanted,) = exact.run(["feats"], batches[0])
    assert (given * wanted).sum(axis=1).mean() > 0.6
    ranges = {name: each.range_value for name, each in converter._ranges.data.items()}
    assert all(low <= high for low, high in ranges.values())


def test_files_go_with_their_model_and_orphans_are_removed(exported, tmp_path):
    for path in exported.onnx.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    source = tmp_path / exported.onnx.name
    target = tmp_path / "exports" / f"{source.stem}-2.onnx"
    move_model(source, target)
    names = [precision_file(target, precision).name for precision in LOWER]
    assert {path.name for path in target.parent.glob("*.onnx")} == {target.name, *names}
    assert all(name.endswith("-2.onnx") for name in names)
    assert [row["file"] for row in read_facts(target)["precisions"]] == [target.name, *names]
    back = tmp_path / source.name
    move_model(target, back)
    remove_orphans(tmp_path)
    assert all(precision_file(back, precision).is_file() for precision in LOWER)
    # One was refused, and a storage brings it back; the JSON of the other was not written before a kill.
    facts = json.loads(back.with_suffix(".json").read_text())
    refused = {**facts["precisions"][1], "reason": "it loses too much"}
    foreign = [tmp_path / f"other_20260101_{precision}.onnx" for precision in LOWER]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), foreign[0])
    foreign[1].write_bytes(b"no model")
    back.with_suffix(".json").write_text(json.dumps({**facts, "precisions": [refused]}))
    remove_orphans(tmp_path)
    assert {*tmp_path.glob("*.onnx")} == {back, *foreign}


def test_no_name_is_taken_from_a_file_of_another_precision(tmp_path):
    """Such as an int8 file that was deployed alone."""
    (tmp_path / "exports").mkdir()
    for name in ("a_20260101_fp32", "a_20260101_int8", "exports/a_20260101_int8", "exports/b_20260101_fp16"):
        (tmp_path / f"{name}.onnx").touch()
    exports, source = tmp_path / "exports", tmp_path / "a_20260101_fp32.onnx"
    assert free_name(exports, source.stem).stem == "a_20260101_fp32-2"
    assert free_name(exports, source.stem, source).stem == "a_20260101_fp32-2"
    # A kill came when the int8 file had been moved.
    precision_file(source, "int8").unlink()
    assert free_name(exports, source.stem, source).stem == "a_20260101_fp32"


def test_a_file_that_somebody_else_made_under_the_name_is_kept(tiny_run, tmp_path):
    found = export_checkpoint(tiny_run.best, tmp_path)
    mine = precision_file(found.onnx, "fp16")
    mine.write_bytes(b"mine")
    asked = ASKED.model_copy(update={"precisions": ["fp16"]})
    row = add_precisions(found.onnx, tiny_run.best, asked, Direction.MAX)[1]
    assert row["reason"] == f"{mine.name} is there, and otter_ray did not write it: move it"
    assert mine.read_bytes() == b"mine"
    # What could not be made is tried again.
    mine.unlink()
    row = add_precisions(found.onnx, tiny_run.best, asked, Direction.MAX)[1]
    assert row["reason"] == ""
    assert mine.is_file()


def test_calibration_holds_one_small_batch_at_a_time(tiny_run, monkeypatch):
    network, passed = checkpoint_network(tiny_run.best, None, as_onnx=False), []
    loader = calibration.evaluation_loader

    def counted(*arguments):
        for batch in loader(*arguments):
            passed.append(batch)
            yield batch

    monkeypatch.setattr(calibration, "evaluation_loader", counted)
    monkeypatch.setattr(calibration, "MAX_BATCH", 5)
    batches = calibration.calibration_batches(network, 24)
    first = next(batches)
    assert len(first["img"]) == 5
    assert len(passed) == 1
    assert len(first["img"]) + sum(len(batch["img"]) for batch in batches) == 24


def test_the_command_says_by_its_exit_code_that_a_file_is_refused(tiny_run, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(files, "to_float16", fail)
    done = run_here("otter_ray.export", tiny_run.best, "--folder", tmp_path, "--quantize", "fp16")
    assert done.returncode == 1, done.stdout
    *_, header, _, row, onnx_line = done.stdout.splitlines()
    assert header == "precision | size | latency | metric | loss | test | file"
    assert row.startswith("fp16 | - ")
    assert onnx_line.startswith("onnx: ")


def test_the_config_is_refused_before_the_start(tiny_config):
    def refused(sets):
        with pytest.raises(ConfigError) as caught:
            check_config(tiny_config.with_sets(sets))
        return str(caught.value)

    assert "gate: an export writes these itself" in refused(
        ["onnx.additional_meta_info={gate: 1, author: me}"]
    )
    assert "Give a list of fp16 and int8" in refused(["quantize={do_quant: true, precisions: [int4]}"])
    # A validation set can be trained on, but has no items without augmentation of its own.
    data = tiny_config.to_dict()
    data["dataset"]["train_options"] = {"name": "RealDataset", "options": {"root": "."}}
    photographs = Config.from_dict(data, "demo")
    with pytest.raises(ConfigError, match=r"has no without_augmentation\(\)"):
        asked_precisions(photographs, ["int8"])
    assert asked_precisions(photographs, ["fp16"]).wanted == ["fp16"]
    with pytest.raises(ConfigError, match="--quantize"):
        asked_precisions(tiny_config, ["int4"])
    assert asked_precisions(tiny_config, ["int8", "int8"]).wanted == ["int8"]
    assert Quantize().wanted == []


def test_an_export_writes_no_name_that_a_config_may_give(exported, tiny_run, tmp_path):
    assert exported.facts.keys() <= OWN_META_INFO
    record = torch.load(tiny_run.best, map_location="cpu", weights_only=True)
    info = {"author": "me", "labels": ["a", "b"]}
    config = Config.from_dict(record["config"], "demo").with_sets({"onnx.additional_meta_info": info})
    file = export_checkpoint(tiny_run.best, tmp_path, config).onnx
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(str(file)).metadata_props}
    assert metadata.items() >= info.items()
    assert metadata.keys() - info.keys() <= OWN_META_INFO


def test_an_earlier_checkpoint_tells_its_direction_by_the_epochs_that_improved():
    def record(*values, **more):
        reports = [{"metrics": {"loss": value}, "improved": True} for value in values]
        return {"metric": "loss", "callbacks": {"Reporter": {"reports": reports}}, **more}

    assert direction_of(record(3.0, 2.0)) is Direction.MIN
    assert direction_of(record(2.0, 3.0)) is Direction.MAX
    assert direction_of(record(2.0, 3.0, mode="min")) is Direction.MIN
    for unknown in (record(2.0), {"metric": "loss"}):
        with pytest.raises(ExportError, match=r"loss: .* Add --mode max or --mode min"):
            direction_of(unknown)
        assert direction_of(unknown, Direction.MIN) is Direction.MIN


def test_a_lightning_module_has_an_fp32_file_alone():
    data = {"project": "lightning", "model": {"class_path": "my_project.Module"}, "metric": "loss"}
    config = LightningConfig.from_dict({**data, "trainer": {"max_epochs": 1}})
    assert asked_precisions(config, []) is None
    with pytest.raises(ConfigError, match="--quantize: project: lightning exports fp32 files alone"):
        asked_precisions(config, ["fp16"])
