import pytest
import torch
from torch import nn

from otter_ray.projects import docclassifier

# Head -> (values that reach the first linear layer for 8 channels of 3 x 3 cells, norms of each layer)
HEADS = {
    "FeatureLearningHead": (72, [nn.BatchNorm1d]),
    "FeatureLearningLNHead": (72, [nn.LayerNorm]),
    "FeatureLearningGAPHead": (8, [nn.LayerNorm]),
    "FeatureLearningSqueezeHead": (18, [nn.LayerNorm]),
    "FeatureLearningSqueezeLBNHead": (18, [nn.LayerNorm, nn.BatchNorm1d]),
}


@pytest.mark.parametrize("name", HEADS)
def test_layers_and_shapes(name):
    length, norms = HEADS[name]
    head = getattr(docclassifier, name)(in_dim=8, embed_dim=5, feature_map_size=3)
    assert [type(layer) for layer in head.embed] == [nn.Linear, *norms, nn.Linear, *norms]
    assert [(layer.in_features, layer.bias) for layer in head.embed if isinstance(layer, nn.Linear)] == [
        (length, None),
        (5, None),
    ]
    finer, last = torch.rand(4, 3, 6, 6), torch.rand(4, 8, 3, 3)
    assert head([finer, last]).shape == (4, 5)
    # The last map alone counts.
    torch.testing.assert_close(head.eval()([finer, last]), head([finer + 1, last]))


@pytest.mark.parametrize("name", HEADS)
def test_a_map_that_is_not_square(name):
    head = getattr(docclassifier, name)(in_dim=8, embed_dim=5, feature_map_size=[2, 3])
    assert head([torch.rand(4, 8, 2, 3)]).shape == (4, 5)


def test_the_mean_over_the_map_forgets_where_things_are():
    head = docclassifier.FeatureLearningGAPHead(8, 5).eval()
    image = torch.rand(2, 8, 3, 3)
    torch.testing.assert_close(head([image]), head([image.flip(2)]))


@pytest.mark.parametrize(("ratio", "channels"), [(1.0, 8), (0.5, 4), (0.01, 1)])
def test_the_squeeze(ratio, channels):
    head = docclassifier.FeatureLearningSqueezeHead(8, 5, 3, squeeze_ratio=ratio)
    assert (head.look[0].out_channels, head.look[0].kernel_size) == (channels, (1, 1))


@pytest.mark.parametrize("ratio", [0, 1.5])
def test_a_squeeze_to_nothing(ratio):
    with pytest.raises(ValueError, match=rf"squeeze_ratio is {ratio} but must be in \(0, 1\]"):
        docclassifier.FeatureLearningSqueezeLBNHead(8, 5, 3, squeeze_ratio=ratio)
