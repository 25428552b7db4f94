import math

import pytest
import torch

from otter_ray.projects.docaligner.corners import label
from otter_ray.projects.docaligner.modeling.heads import Prediction
from otter_ray.projects.docaligner.modeling.losses import CornerLoss, adaptive_wing
from otter_ray.projects.docaligner.modeling.targets import corner_maps

BOX = [[0.2, 0.25], [0.8, 0.2], [0.75, 0.9], [0.15, 0.8]]


def labels(corners):
    return torch.tensor(label(corners, 10, 10))[None]


def test_adaptive_wing():
    """Values of the paper's formula, by hand: 14 ln(1 + 0.25^2.1) near, A |y - v| - C far."""
    target, near, far = torch.tensor([0.0]), torch.tensor([0.25]), torch.tensor([0.9])
    assert adaptive_wing(target, target) == 0
    assert adaptive_wing(near, target).item() == pytest.approx(0.7417, abs=1e-4)
    assert adaptive_wing(far, target).item() == pytest.approx(7.3837, abs=1e-3)
    step = torch.tensor([0.5 - 1e-5]), torch.tensor([0.5 + 1e-5])
    low, high = (adaptive_wing(each, target).item() for each in step)
    assert high - low < 1e-3  # the two pieces meet
    peak = torch.tensor([1.0])
    assert adaptive_wing(torch.tensor([0.75]), peak).item() == pytest.approx(14 * math.log(1 + 0.25**1.1))
    assert adaptive_wing(torch.tensor([0.1]), peak).item() == pytest.approx(9.2796, abs=1e-4)


@pytest.mark.parametrize("corner", ["AWing", "MSE", "BCE"])
def test_the_right_heatmaps_cost_least(corner):
    loss, size = CornerLoss(corner, sigma=1.0), (16, 16)
    target = corner_maps(torch.tensor([BOX]), size, 1.0).clamp(1e-4, 1 - 1e-4)
    right, wrong = target.logit(), target.roll(3, 3).logit()
    costs = [loss(Prediction(corners=maps), labels(BOX))["corner_loss"] for maps in (right, wrong)]
    assert costs[0] < costs[1] / 2


def test_a_corner_outside_counts_neither_for_nor_against():
    outside = [[-0.2, 0.25], *BOX[1:]]
    logits = torch.zeros(1, 4, 16, 16, requires_grad=True)
    CornerLoss()(Prediction(corners=logits), labels(outside))["corner_loss"].backward()
    assert logits.grad[0, 0].abs().max() == 0
    assert logits.grad[0, 1].abs().max() > 0


def test_no_document_means_empty_heatmaps_and_no_points():
    loss = CornerLoss(point_weight=1)
    empty = torch.full((1, 4, 16, 16), -20.0)
    points = torch.full((1, 4, 2), 0.5)
    parts = loss(Prediction(corners=empty, points=points, has_object=torch.tensor([[-20.0]])), labels(None))
    assert all(part < 1e-4 for part in parts.values())
    assert set(parts) == {"corner_loss", "point_loss", "object_loss"}


def test_weights():
    prediction = Prediction(
        corners=torch.zeros(1, 4, 8, 8), edge=torch.zeros(1, 1, 8, 8), has_object=torch.zeros(1, 1)
    )
    once = CornerLoss(edge_weight=1, object_weight=1)(prediction, labels(BOX))
    twice = CornerLoss(edge_weight=2, object_weight=3)(prediction, labels(BOX))
    assert twice["edge_loss"] == pytest.approx(2 * once["edge_loss"])
    assert twice["object_loss"] == pytest.approx(3 * once["object_loss"])
    assert twice["corner_loss"] == once["corner_loss"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sigma": 0}, "sigma is 0 but must be above 0"),
        ({"corner": "Awing"}, "Did you mean 'AWing'"),
        ({"foreground": -1}, "foreground is -1 but must be at least 0"),
        ({"sigma": float("nan")}, "sigma is nan"),
    ],
)
def test_options_out_of_range(options, told):
    with pytest.raises(ValueError, match=told):
        CornerLoss(**options)
