import pytest
import torch

from otter_ray.vision.necks import FPN, BiFPN, WeightedSum

CHANNELS, SIDES = [3, 5, 7], [(12, 8), (6, 4), (3, 2)]


def features():
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(2, channels, *side, generator=generator)
        for channels, side in zip(CHANNELS, SIDES, strict=True)
    ]


@pytest.mark.parametrize("neck", [FPN, BiFPN])
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_maps_keep_their_sizes(neck, upsampling):
    maps = neck(CHANNELS, 6, repeats=2, upsampling=upsampling)(features())
    assert [tuple(each.shape) for each in maps] == [(2, 6, *side) for side in SIDES]
    assert neck(CHANNELS, 6).channels == [6, 6, 6]


@pytest.mark.parametrize(
    ("neck", "seen"),
    [
        (FPN, {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)}),
        (BiFPN, {(a, b) for a in range(3) for b in range(3)}),
    ],
)
def test_who_hears_of_whom(neck, seen):
    """In an FPN finer maps hear of coarser ones; in a BiFPN all hear of all."""
    network = neck(CHANNELS, 6).eval()
    found = set()
    for level in range(3):
        inputs = [each.requires_grad_() for each in features()]
        network(inputs)[level].sum().backward()
        found |= {
            (level, source) for source, each in enumerate(inputs) if each.grad is not None and each.grad.any()
        }
    assert found == seen


@pytest.mark.parametrize("neck", [FPN, BiFPN])
def test_only_what_is_read_is_built(neck):
    network = neck(CHANNELS, 6, repeats=2, read=[0, 2])
    assert [tuple(each.shape[2:]) for each in network(features())] == [SIDES[0], SIDES[2]]
    assert network.channels == [6, 6]
    finest = neck(CHANNELS, 6, repeats=2, read=[0])
    sum(each.sum() for each in finest(features())).backward()
    assert all(weight.grad is not None for weight in finest.parameters())


def test_a_weighted_sum_is_a_mean_without_negative_weights():
    layer = WeightedSum(3)
    layer.weight.data = torch.tensor([1.0, 3.0, -2.0])
    assert layer(*(torch.full((1, 1), value) for value in (1.0, 2.0, 100.0))).item() == pytest.approx(
        1.75, abs=1e-3
    )


def test_a_single_level():
    assert BiFPN([3], 4)(features()[:1])[0].shape == (2, 4, 12, 8)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"in_channels": []}, "no level"),
        ({"out_channels": 0}, "out_channels is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"upsampling": "cubic"}, "must be nearest or bilinear"),
        ({"read": [1]}, r"read is \[1\] but must name levels of \[0, 1, 2\]"),
    ],
)
def test_options_out_of_range(options, told):
    with pytest.raises(ValueError, match=told):
        FPN(**{"in_channels": CHANNELS, **options})
