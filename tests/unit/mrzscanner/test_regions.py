import numpy as np
import pytest
import torch

from otter_ray.projects.mrzscanner import RegionHead, RegionLoss
from otter_ray.projects.mrzscanner.metrics.regions import rectangle
from otter_ray.projects.mrzscanner.modeling.region import soft_dice, zone_mask
from otter_ray.vision.jaccard import jaccard

TILTED = np.array([[0.2, 0.5], [0.8, 0.6], [0.78, 0.72], [0.18, 0.62]])
NONE = np.full((1, 4, 2), np.nan)


def masks(*zones, size=(64, 64)):
    return zone_mask(torch.tensor(np.stack(zones), dtype=torch.float32), size)


def test_the_rectangle_of_a_drawn_mask_is_the_zone():
    mask = masks(TILTED, size=(128, 128))[0].numpy()
    assert jaccard(rectangle(mask, (256, 256)), TILTED) > 0.95
    # The larger of two pieces is the zone.
    mask[:10, :10] = 1
    assert jaccard(rectangle(mask, (256, 256)), TILTED) > 0.95


def test_a_mask_covers_as_much_as_its_zone():
    zone = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.5], [0.25, 0.5]])
    assert masks(zone).sum().item() == pytest.approx(64 * 64 / 8)
    assert masks(zone)[0, 20, 20] == 1
    assert masks(zone)[0, 40, 20] == 0
    assert masks(NONE[0]).sum() == 0


def test_nothing_on_the_mask():
    assert np.isnan(rectangle(np.zeros((16, 16), np.float32), (64, 64))).all()


def test_the_loss_of_a_sure_mask_and_of_a_wrong_one():
    target = masks(TILTED, NONE[0])
    sure = RegionLoss()(20 * (target - 0.5), target)
    assert sum(sure.values()) < 0.1
    assert all(value > 0.05 for value in RegionLoss()(-20 * (target - 0.5), target).values())
    assert soft_dice(target, target).tolist() == pytest.approx([1, 1], abs=0.06)
    with pytest.raises(ValueError, match="weights must be at least 0"):
        RegionLoss(0, 0, 0)


def test_the_head_sums_maps_of_all_sizes():
    head = RegionHead([4, 8], dim=6)
    assert head([torch.rand(2, 4, 9, 7), torch.rand(2, 8, 5, 4)]).shape == (2, 9, 7)
