"""Which differences of the metric the gate asks rounding about."""

import math
from types import SimpleNamespace

import pytest
import torch

from otter_ray.errors import ExportError
from otter_ray.export import gate


def differing(measured, recorded, has_any_scale=False, step=0.0):
    """The tolerance that the file's metric is outside of, compared with what training recorded."""
    model = SimpleNamespace(HAS_ANY_SCALE=has_any_scale, score_step=lambda labels, metric: step)
    reference = SimpleNamespace(model=model, precision=torch.float32)
    metrics = {"m": measured}
    result = SimpleNamespace(metrics=metrics, pytorch_metrics=metrics, recorded=recorded, metric="m")
    return gate._differing(result, reference, None).get("the checkpoint's")


@pytest.mark.parametrize("has_any_scale", [False, True])
@pytest.mark.parametrize("recorded", [math.inf, -math.inf, math.nan])
def test_a_recorded_value_that_is_not_finite_passes_nothing(recorded, has_any_scale):
    assert differing(0.5, recorded, has_any_scale)[1] == gate.METRIC_TOLERANCE
    assert differing(recorded, recorded, has_any_scale)


def test_the_tolerance_is_a_share_for_those_who_ask_alone():
    assert differing(100.05, 100.0)[1] == gate.METRIC_TOLERANCE
    assert differing(100.05, 100.0, True) is None
    assert differing(100.2, 100.0, True)[1] == pytest.approx(0.1)
    assert differing(0.5005, 0.5) is None
    assert differing(0.502, 0.5, True)[1] == gate.METRIC_TOLERANCE


def test_one_image_that_is_decided_otherwise_refuses_no_file():
    """30 images: two that are decided otherwise are no tie."""
    assert differing(0.9, 28 / 30)[1] == gate.METRIC_TOLERANCE
    assert differing(0.9, 29 / 30, step=1 / 30)
    assert all(differing(0.9, recorded, step=1 / 30) is None for recorded in (26 / 30, 28 / 30))
    assert differing(0.9, 0.9005, step=1e-6) is None


def test_whatever_a_measurement_raises_is_told():
    def measure(*args):
        raise LookupError("no such batch")

    with pytest.raises(ExportError, match="measuring the model failed: LookupError: no such batch"):
        gate._measure(SimpleNamespace(measure=measure), None, None, None)
