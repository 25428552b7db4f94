import pytest
import torch

from otter_ray.errors import ConfigError
from otter_ray.projects.docclassifier import ClassifierModel
from otter_ray.vision import backbones as network


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config.with_values({"model.loss.num_classes": 5})


def problems(config):
    with pytest.raises(ConfigError) as caught:
        ClassifierModel(config)
    return caught.value.problems


@pytest.mark.parametrize(("size", "side"), [(32, 1), (64, 2)])
@pytest.mark.parametrize("backbone", ["lcnet_035", "timm_lcnet_050"])
def test_the_head_follows_the_backbone_and_the_image(config, backbone, size, side):
    changes = {
        "model.backbone.options.name": backbone,
        "common.image_size": [size, size],
        "global_settings.image_size": [size, size],
        "onnx.input_shape.img.shape": [1, 3, size, size],
    }
    model = ClassifierModel(config.with_values(changes)).eval()
    assert model.head.look[0].in_channels == model.backbone.channels[-1]
    assert model.head.embed[0].in_features == model.head.look[0].out_channels * side**2
    assert model(torch.rand(2, 3, size, size)).shape == (2, 128)


def test_images_that_are_not_square(config):
    changes = {
        "common.image_size": [32, 96],
        "global_settings.image_size": [32, 96],
        "onnx.input_shape.img.shape": [1, 3, 32, 96],
    }
    model = ClassifierModel(config.with_values(changes)).eval()
    assert model.head.embed[0].in_features == model.head.look[0].out_channels * 3
    assert model(torch.rand(2, 3, 32, 96)).shape == (2, 128)
    (problem,) = problems(config.with_values(changes | {"model.head.options.feature_map_size": 1}))
    assert "lcnet_035 gives [1, 3] at 32x96 px. Set [1, 3]" in problem.message


def test_images_have_three_channels(config):
    (problem,) = problems(config.with_values({"model.backbone.options.in_chans": 1}))
    assert str(problem).endswith(
        "model.backbone.options.in_chans: 1 but the images of all data sets have 3 channels. Remove in_chans."
    )


def test_a_backbone_that_cannot_run_on_the_images_is_named(config):
    small = {"model.backbone.options.name": "vit_tiny_patch16_224", "model.backbone.options.img_size": 64}
    data = config.with_values(small).to_dict()
    del data["model"]["backbone"]["options"]["bn_momentum"]
    (problem,) = problems(type(config).from_dict(data, "demo"))
    assert problem.key == "model.backbone"
    assert problem.message.startswith("vit_tiny_patch16_224 cannot run on images of 32x32 px: ")


def test_absent_sizes_follow_too(config):
    data = config.to_dict()
    for key in ("in_dim", "feature_map_size"):
        del data["model"]["head"]["options"][key]
    assert ClassifierModel(type(config).from_dict(data, "demo")).head.look[0].in_channels > 0


@pytest.mark.parametrize(("key", "wrong"), [("in_dim", 300), ("feature_map_size", 4)])
def test_a_size_that_contradicts_the_backbone(config, key, wrong):
    fact = {"in_dim": network.Backbone("lcnet_035").channels[-1], "feature_map_size": 1}[key]
    (problem,) = problems(config.with_values({f"model.head.options.{key}": wrong}))
    assert problem.key == f"model.head.options.{key}"
    for text in (str(wrong), "model.backbone.options.name", "lcnet_035", f"Set {fact}", "32x32"):
        assert text in problem.message


def test_both_contradictions_are_told_at_once(config):
    changes = {"model.head.options.in_dim": 300, "model.head.options.feature_map_size": 4}
    assert {problem.key for problem in problems(config.with_values(changes))} == set(changes)


@pytest.mark.parametrize("key", ["model.head.options.embed_dim", "model.loss.embed_dim"])
def test_embed_dims_that_differ(config, key):
    (problem,) = problems(config.with_values({key: 64}))
    for text in ("model.head.options.embed_dim", "model.loss.embed_dim", "64", "128"):
        assert text in str(problem)


def test_one_embed_dim_for_both(config):
    both = {"model.head.options.embed_dim": 64, "model.loss.embed_dim": 64}
    model = ClassifierModel(config.with_values(both)).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 64)
    assert model.loss.weight.shape == (5, 64)


@pytest.mark.parametrize("name", ["CosFace", "ArcFace"])
def test_the_loss_that_the_config_names(config, name):
    loss = ClassifierModel(config.with_values({"model.loss.name": name})).loss
    assert (type(loss).__name__, loss.s, loss.m, len(loss.weight)) == (name, 16.0, 0.2, 5)


def test_score_keeps_the_curve(config):
    model = ClassifierModel(config)
    labels = torch.arange(20) // 5
    assert model.score(torch.eye(4)[labels], labels) == dict.fromkeys(model.SCORES, 1.0)
    assert model.roc.num_positives == 40


def test_a_copy_of_the_weights_gives_the_same_embeddings(config):
    first, second, images = ClassifierModel(config), ClassifierModel(config), torch.rand(2, 3, 32, 32)
    assert not torch.equal(first.eval()(images), second.eval()(images))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(images), second(images), rtol=0, atol=0)
