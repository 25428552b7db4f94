"""What the models take: necks, and data sets whose labels are theirs; and what their cards' programs do."""

import sys

import cv2
import lightning as L
import numpy as np
import onnx
import pytest
import torch
from torch.utils.data import default_collate

from otter_ray import load_config
from otter_ray.errors import ConfigError
from otter_ray.projects.mrzscanner import BiFPN, ReaderModel, RegionModel, SpottingModel, WarpReader
from otter_ray.projects.mrzscanner.modeling.data_checks import require_keys
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS, SPOTTER_KEYS
from otter_ray.projects.mrzscanner.visuals.model_card import reader_example, region_example
from otter_ray.train.builders import build_datasets, build_model, build_trainer


def of_size(height, width):
    return [
        f"common.image_size=[{height}, {width}]",
        "global_settings=null",
        f"onnx.input_shape.img.shape=[1, 3, {height}, {width}]",
    ]


READER = [*of_size(24, 220), "model.head.options.dim=8"]
PHOTOS = {"name": "PhotoDataset", "options": {"root": "photos"}}


def test_a_neck_is_used_and_exported():
    neck = "model.neck={name: BiFPN, options: {out_channels: 12}}"
    model = ReaderModel(load_config("mrz_demo", [*READER, neck])).eval()
    assert isinstance(model.neck, BiFPN)
    assert model.head.columns[0].in_channels == 2 * 12
    image = torch.rand(1, 3, 24, 220)
    with torch.no_grad():
        before = model.read(image)
        assert torch.allclose(WarpReader(model)(image), before, atol=1e-5)
        model.neck.lateral[0][0].weight.mul_(2)
        assert not torch.allclose(model.read(image), before, atol=1e-5)


@pytest.mark.parametrize("head", ["GridHead", "CtcHead", "QueryHead", None])
def test_bfloat16_does_not_round_where_a_zone_is(head, tmp_path):
    name, size = ("mrz_demo", of_size(24, 360)) if head else ("mrz_detection", of_size(64, 64))
    config = load_config(name, size)
    values = {
        "dataset.train_options.options.length_of_dataset": 2,
        "trainer": {"max_epochs": 1, "precision": "bf16-true", "accelerator": "cpu"},
        **({"model.head": {"name": head}} if head else {}),
        **({"model.loss": {"name": "TextLoss"}} if head != "GridHead" and head else {}),
    }
    config = config.with_values(values)
    plugin = build_trainer(config, tmp_path, L.Callback()).precision_plugin
    model = plugin.convert_module(build_model(config))
    batch = default_collate([*build_datasets(config)[0]])
    images, labels = plugin.convert_input(batch)
    assert images.dtype == torch.bfloat16
    assert torch.equal(labels["zone"], batch[1]["zone"])
    model.trainer, model.log, model.log_dict = None, lambda *_, **__: None, lambda *_, **__: None
    model.get_lr = lambda: 0.0
    with plugin.train_step_context():
        loss = model.training_step((images, labels), 0)
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("cls", "config", "changes", "message"),
    [
        (ReaderModel, "mrz_demo", {"dataset.valid_options": {"name": "SceneDataset"}},
         r"dataset.valid_options.name: SceneDataset writes texts in the keys of a spotter, .* Use"),
        (SpottingModel, "mrz_spotting", {"dataset.test_options": PHOTOS},
         "dataset.test_options.options.keys: 'reader', but SpottingModel .* Set it to spotter"),
        (RegionModel, "mrz_detection", {"dataset.train_options": PHOTOS},
         "dataset.train_options.name: PhotoDataset does not know where zones are"),
    ],
)  # fmt: skip
def test_data_sets_of_another_model(cls, config, changes, message):
    with pytest.raises(ConfigError, match=message):
        cls(load_config(config).with_values(changes))


def test_photographs_of_a_reader_and_of_a_spotter():
    require_keys(load_config("mrz_demo").with_values({"dataset.valid_options": PHOTOS}), READER_KEYS)
    photos = {"name": "PhotoDataset", "options": {"root": "photos", "keys": "spotter"}}
    require_keys(load_config("mrz_spotting").with_values({"dataset.valid_options": photos}), SPOTTER_KEYS)


def run(program, photo, tmp_path, monkeypatch, capsys):
    assert len(program.splitlines()) <= 10
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    monkeypatch.setattr(sys, "argv", ["program", str(tmp_path / "photo.png")])
    exec(program, {})
    return capsys.readouterr().out


def file_of(folder, node, size, *output):
    """An ONNX file of one operator."""
    kinds = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node], "one",
        [onnx.helper.make_tensor_value_info("img", kinds, [1, 3, *size])],
        [onnx.helper.make_tensor_value_info("out", kinds, [*output])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return str(folder / "model.onnx")


def test_the_detectors_program_finds_corners_in_the_photograph(tmp_path, monkeypatch, capsys):
    photo = np.zeros((200, 400, 3), np.uint8)
    photo[120:160, 80:320] = 255
    config = load_config("mrz_detection")
    node = onnx.helper.make_node("ReduceMean", ["img"], ["out"], axes=[1], keepdims=0)
    file = file_of(tmp_path, node, (256, 256), 1, 256, 256)
    printed = run(region_example(config, file), photo, tmp_path, monkeypatch, capsys)
    corners = np.array(printed.replace("[", "").replace("]", "").split(), float).reshape(4, 2)
    assert corners.min(axis=0) == pytest.approx([80, 120], abs=2)
    assert corners.max(axis=0) == pytest.approx([319, 159], abs=2)


def test_the_spotters_program_pads_the_photograph(tmp_path, monkeypatch, capsys):
    photo = np.zeros((40, 160, 3), np.uint8)
    photo[:, 8:12] = 255
    config = load_config("mrz_spotting", of_size(8, 40))
    node = onnx.helper.make_node("ReduceMean", ["img"], ["out"], axes=[1], keepdims=0)
    file = file_of(tmp_path, node, (8, 40), 1, 8, 40)
    # The model takes rows of pixels for places, and columns for keys: the third of 40 is A.
    printed = run(reader_example(config, SPOTTER_KEYS, file), photo, tmp_path, monkeypatch, capsys)
    assert printed.strip() == "AA"  # of 8 rows, the others are black
