"""What rounding can make of the metric of any model."""

import torch

from otter_ray.train.model.score_range import ScoreRange, sampled_range


def share_above_half(outputs):
    return {"share": (outputs > 0.5).double().mean().item()}


def test_a_metric_that_rounding_decides_has_a_range():
    outputs = torch.tensor([0.5 - 1e-7, 0.5 + 1e-7, 0.9, 0.1])
    found = sampled_range(share_above_half, outputs, [outputs + 2e-7], "share")
    assert (found.low, found.high) == (0.25, 0.75)
    assert "4 images" in found.reason


def test_a_metric_that_rounding_does_not_decide_has_none():
    outputs = torch.tensor([0.4, 0.6, 0.9, 0.1])
    found = sampled_range(share_above_half, outputs, [outputs + 2e-7], "share")
    assert found.low == found.high == 0.5


def test_of_several_outputs_each_is_disturbed_by_its_own_size():
    steady, loose = torch.tensor([0.5 - 1e-4]), torch.tensor([0.5 - 1e-7])
    classes = torch.tensor([3])

    def score(outputs):
        assert outputs[2].equal(classes)
        return {"first": float(outputs[0] > 0.5), "second": float(outputs[1] > 0.5)}

    outputs, other = (steady, loose, classes), (steady, loose + 1e-6, classes)
    ranges = {name: sampled_range(score, outputs, [other], name) for name in ("first", "second")}
    assert (ranges["first"].low, ranges["first"].high) == (0, 0)
    assert (ranges["second"].low, ranges["second"].high) == (0, 1)


def test_noise_leaves_no_probability_below_0_or_above_1():
    def score(outputs):
        assert outputs.min() >= 0
        assert outputs.max() <= 1
        return {"mean": outputs.mean().item()}

    outputs = torch.tensor([0.0, 0.5, 1.0])
    found = sampled_range(score, outputs, [torch.tensor([0.01, 0.5, 0.99])], "mean")
    assert found.low < found.high


def test_a_draw_for_which_the_metric_is_not_defined_does_not_count():
    outputs = torch.tensor([0.5, 0.5])
    known = [outputs, outputs + 1e-3]

    def score(seen):
        return {"some": 1.0 if any(seen.equal(each) for each in known) else float("nan")}

    found = sampled_range(score, outputs, known[1:], "some")
    assert (found.low, found.high) == (1, 1)
    assert not sampled_range(score, outputs, [outputs + 2e-3], "some").holds(1, 0)


def test_it_draws_nothing_from_the_run():
    outputs = torch.rand(4)
    state = torch.random.get_rng_state()
    sampled_range(share_above_half, outputs, [outputs + 1e-6], "share")
    assert torch.random.get_rng_state().equal(state)


def test_what_a_range_holds():
    found = ScoreRange(0.2, 0.4, "")
    assert found.holds(0.2, 0)
    assert found.holds(0.41, 0.02)
    assert not found.holds(0.41, 0)
    assert not found.holds(float("nan"), 1)
