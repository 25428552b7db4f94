import pytest
import torch
from torch import nn

from otter_ray.docclassifier import FeatureLearningSqueezeLBNHead
from otter_ray.docclassifier.network import Backbone, WarpFeatureLearning
from otter_ray.errors import TrainingError


@pytest.mark.parametrize("name", ["lcnet_035", "timm_lcnet_035"])
def test_a_backbone_by_both_spellings(name):
    backbone = Backbone(name)
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert [each.shape[1] for each in maps] == backbone.channels
    assert [64 // each.shape[-1] for each in maps] == backbone.reductions


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (70, 70), (100, 100)])
def test_the_feature_maps_size_is_foretold(size):
    backbone = Backbone("lcnet_035").eval()
    assert backbone(torch.rand(1, 3, *size))[-1].shape[-1] == backbone.feature_map_size(size)


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
    with pytest.raises(TrainingError, match="pretrained is true but the weights of lcnet_050 cannot be had"):
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
