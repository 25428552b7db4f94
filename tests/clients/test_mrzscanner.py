"""MRZScanner's client on an exported recogniser, on a detector, and on both as two stages."""

import itertools

import numpy as np
import pytest

from otter_ray import load_config
from otter_ray.export import export_checkpoint
from otter_ray.projects.mrzscanner.metrics.texts import compare
from otter_ray.projects.mrzscanner.text.keys import LENGTH, READER_KEYS, SPOTTER_KEYS
from otter_ray.train import RunHooks, RunOptions, run_training
from otter_ray.train.builders import build_held_out
from otter_ray.vision.jaccard import jaccard

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("client_python")]
IMAGES = 100
SHORT = [
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "trainer.max_epochs=1",
    "common.batch_size=8",
    "dataset.valid_options.options.length_of_dataset=24",
    f"dataset.test_options.options.length_of_dataset={IMAGES}",
    "optimizer.options.lr=0.01",
]
READER = [
    "common.image_size=[24, 220]",
    "global_settings=null",
    "onnx.input_shape.img.shape=[1, 3, 24, 220]",
    "model.backbone.options={width: 16, depth: 0}",
    "dataset.train_options.options.length_of_dataset=1600",
    *(f"dataset.{part}_options.options.strength=0.1" for part in ("train", "valid", "test")),
]
DETECTOR = [
    "common.image_size=[64, 64]",
    "global_settings=null",
    "onnx.input_shape.img.shape=[1, 3, 64, 64]",
    "model.backbone.options.name=timm_lcnet_035",
    "dataset.train_options.options.length_of_dataset=200",
]
SPOTTER = [
    "common.image_size=[64, 64]",
    "global_settings=null",
    "onnx.input_shape.img.shape=[1, 3, 64, 64]",
    "model.backbone.options={name: timm_lcnet_035, features_only: true, out_indices: [2, 3]}",
    "model.head.options={dim: 16, layers: 1, heads: 4, patch: 2}",
    "dataset.train_options.options.length_of_dataset=64",
]
FILLERS = 0.38  # valid_anls of `<` everywhere


def export(name, changes, metric, folder):
    """A tiny run's file, its config, and its test split."""
    config = load_config(name, [*SHORT, *changes])
    best = run_training(config, folder, print, RunOptions(metric=metric, cpus=1), RunHooks())
    return export_checkpoint(best, folder, project=config.project), config, build_held_out(config)[1]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return export("mrz_demo", READER, "valid_anls", tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return export("mrz_detection", DETECTOR, "valid_iou", tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def spotter(tmp_path_factory):
    return export("mrz_spotting", SPOTTER, "valid_anls", tmp_path_factory.mktemp("spotter"))


def ids_of(zone, keys):
    """The keys of a text, which may fill all places: then it has no end."""
    lines = ([*map(keys.index.get, line), keys.between_lines] for line in zone)
    ids = [*itertools.chain.from_iterable(lines)][:-1]
    return np.array([*ids, keys.eos, *[keys.pad] * LENGTH][:LENGTH])


@pytest.mark.parametrize(
    ("name", "kind", "keys"),
    [("reader", "recognition", READER_KEYS), ("spotter", "spotting", SPOTTER_KEYS)],
)
def test_the_client_reads_what_the_gate_measured(
    name, kind, keys, request, ask, write_images, assert_json_metadata
):
    exported, config, test = request.getfixturevalue(name)
    assert_json_metadata(exported.onnx)
    images, labels = zip(*test, strict=True)
    models = {kind: [exported.onnx, config.common.image_size]}
    found = ask("mrzscanner", kind=kind, models=models, images=write_images(images))
    zones = [tuple(text.split("\n")) for text in found["texts"]]
    truth = np.stack([label["text"].numpy() for label in labels])
    metrics = exported.gate.test.metrics
    assert name == "spotter" or metrics["valid_anls"] > FILLERS
    ids = np.stack([ids_of(zone, keys) for zone in zones])
    scores = {name: values.mean() for name, values in compare(ids, truth, keys).values.items()}
    assert scores == pytest.approx(metrics, abs=1e-3)


def test_the_client_finds_the_zone_where_the_gate_does(detector, ask, write_images, assert_json_metadata):
    exported, config, test = detector
    assert_json_metadata(exported.onnx)
    images, labels = zip(*test, strict=True)
    models = {"detection": [exported.onnx, config.common.image_size]}
    found = ask("mrzscanner", kind="detection", models=models, images=write_images(images))
    size = config.common.image_size[::-1]
    assert np.isfinite(found["polygons"]).all()
    pairs = zip(found["polygons"], labels, strict=True)
    overlaps = [jaccard((polygon + 0.5) / size, label["zone"].double().numpy()) for polygon, label in pairs]
    # Its pieces, areas and rectangles are OpenCV's, as ours.
    assert np.mean(overlaps) == pytest.approx(exported.gate.test.metrics["valid_iou"], abs=1e-3)


def test_both_files_are_its_two_stages(reader, detector, ask, write_images):
    models = {
        stage: [exported.onnx, config.common.image_size]
        for stage, (exported, config, _) in (("recognition", reader), ("detection", detector))
    }
    files = write_images([detector[2][index][0] for index in range(8)])
    both = ask("mrzscanner", kind="two_stage", models=models, images=files)
    alone = ask("mrzscanner", kind="detection", models=models, images=files)
    assert np.isfinite(both["polygons"]).all()
    assert both["polygons"] == pytest.approx(alone["polygons"])
    assert all(both["texts"])
