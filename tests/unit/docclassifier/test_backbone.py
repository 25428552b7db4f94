import pytest
import torch
from torch import nn

from otter_ray.errors import TrainingError
from otter_ray.projects.docclassifier import FeatureLearningSqueezeLBNHead, WarpFeatureLearning
from otter_ray.vision.backbones import Backbone


@pytest.mark.parametrize("name", ["lcnet_035", "timm_lcnet_035"])
def test_a_backbone_by_both_spellings(name):
    backbone = Backbone(name)
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert [each.shape[1] for each in maps] == backbone.channels
    assert [64 // each.shape[-1] for each in maps] == backbone.reductions


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("lcnet_035", size) for size in [(32, 32), (64, 64), (70, 70), (100, 100), (64, 96), (70, 33)]),
        ("convnext_atto", (72, 40)),  # LCNet rounds up, ConvNeXt down
        ("mambaout_femto", (72, 40)),  # its maps have their channels last
    ],
)
def test_the_feature_maps_size_is_foretold(name, size):
    backbone = Backbone(name).train()
    height, width = backbone.feature_map_size(size)
    assert backbone.training
    last = backbone.eval()(torch.rand(2, 3, *size))[-1]
    assert last.shape == (2, backbone.channels[-1], height, width)


def test_the_channels_come_first_whatever_timm_returns():
    backbone = Backbone("swin_tiny_patch4_window7_224", image_size=(64, 64), depths=(1, 1, 1, 1)).eval()
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (channels, 64 // reduction, 64 // reduction)
        for channels, reduction in zip(backbone.channels, backbone.reductions, strict=True)
    ]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swinv2_cr_tiny_224"])
def test_a_model_for_one_size_is_built_for_that_of_the_images(name):
    assert Backbone(name, image_size=(64, 96)).feature_map_size((64, 96)) is not None
    with pytest.raises(ValueError, match=rf"^{name} cannot run on images of 64x96 px: \w+Error: .+$"):
        Backbone(name).feature_map_size((64, 96))


def test_the_size_that_a_config_asks_for_is_left():
    with pytest.raises(ValueError, match="cannot run on images of 64x64 px"):
        Backbone("vit_tiny_patch16_224", image_size=(64, 64), img_size=32).feature_map_size((64, 64))


def test_a_model_that_cannot_be_built():
    with pytest.raises(ValueError, match=r"^timm cannot build resnet10t with feature maps: AssertionError"):
        Backbone("resnet10t", output_stride=7)


def test_an_unknown_backbone():
    with pytest.raises(ValueError, match=r"timm has no model 'lcnet_05'.*Did you mean.*'lcnet_050'"):
        Backbone("timm_lcnet_05")


def test_features_only_is_needed():
    with pytest.raises(ValueError, match=r"features_only is False.*Set it to true"):
        Backbone("lcnet_035", features_only=False)


def test_weights_that_cannot_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        TrainingError, match="pretrained is true, but the weights of lcnet_050 could not be downloaded"
    ):
        Backbone("lcnet_050", pretrained=True)


@pytest.fixture
def model():
    parts = nn.Module()
    parts.backbone = Backbone("lcnet_035")
    parts.neck = nn.Identity()
    parts.head = FeatureLearningSqueezeLBNHead(parts.backbone.channels[-1], 6, 1)
    parts.loss = nn.Linear(6, 1000)
    return parts.eval()


def test_the_wrapper_gives_unit_embeddings_unless_told_otherwise(model):
    images = torch.rand(3, 3, 32, 32)
    raw = WarpFeatureLearning(model, normalize=False)(images)
    unit = WarpFeatureLearning(model)(images)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))
    assert not torch.allclose(raw.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), unit)


def test_the_wrapper_leaves_the_loss_behind(model):
    kept = {name.split(".")[0] for name, _ in WarpFeatureLearning(model).named_parameters()}
    assert kept == {"backbone", "head"}


def test_a_feature_map_is_measured_once_for_each_model_and_size(monkeypatch):
    first = Backbone("lcnet_035").feature_map_size((64, 96))
    again = Backbone("lcnet_035")
    monkeypatch.setattr(again, "forward", None)
    assert again.feature_map_size((64, 96)) == first == (2, 3)
    with pytest.raises(ValueError, match="lcnet_035 cannot run on images of 352x96 px"):
        again.feature_map_size((352, 96))  # of which no other test asks
    assert Backbone("lcnet_035", output_stride=16).feature_map_size((64, 96)) == (4, 6)
