"""Tiny runs of the detector, of the spotter, and of the recogniser's other heads: trained and exported."""

import numpy as np
import onnxruntime
import pytest

from otter_ray import load_config
from otter_ray.export import export_checkpoint
from otter_ray.train import RunHooks, RunOptions, run_training

SHORT = [
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "trainer.max_epochs=1",
    "common.batch_size=4",
    "dataset.train_options.options.length_of_dataset=8",
    "dataset.valid_options.options.length_of_dataset=6",
    "dataset.test_options=null",
]
CROP = ["common.image_size=[32, 352]", "global_settings=null", "onnx.input_shape.img.shape=[1, 3, 32, 352]"]
SCENE = ["common.image_size=[64, 64]", "global_settings=null", "onnx.input_shape.img.shape=[1, 3, 64, 64]"]
READER = [*CROP, "model.backbone.options={width: 8, depth: 0}"]
# Name -> (config, metric, options, shape of the output)
MODELS = {
    "detector": (
        "mrz_detection",
        "valid_iou",
        [*SCENE, "model.backbone.options.name=timm_lcnet_035", "model.head.options.dim=8"],
        (16, 16),
    ),
    "spotter": (
        "mrz_spotting",
        "valid_anls",
        [
            *SCENE,
            "model.backbone.options={name: timm_lcnet_035, features_only: true, out_indices: [2, 3]}",
            "model.head.options={dim: 16, layers: 1, heads: 4, patch: 2}",
        ],
        (93, 40),
    ),
    "ctc": (
        "mrz_recognition",
        "valid_anls",
        [*READER, "model.head.name=CtcHead", "model.head.options={dim: 8}"],
        (93, 40),
    ),
    "queries": (
        "mrz_recognition",
        "valid_anls",
        [*READER, "model.head.name=QueryHead", "model.head.options={dim: 16, layers: 1}"],
        (93, 40),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_and_its_file_passes_the_gate(name, tmp_path):
    config_name, metric, options, shape = MODELS[name]
    config = load_config(config_name, [*SHORT, *options])
    best = run_training(config, tmp_path, print, RunOptions(metric=metric, cpus=1), RunHooks())
    exported = export_checkpoint(best, tmp_path, project=config.project)
    assert 0 <= exported.gate.metrics[metric] <= 1
    session = onnxruntime.InferenceSession(exported.onnx, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((2, 3, *config.common.image_size), np.float32)
    (output,) = session.run(None, {"img": image})
    assert output.shape == (2, *shape)
