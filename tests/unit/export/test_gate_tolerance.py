"""Which differences of the metric the gate asks rounding about."""

import math
from types import SimpleNamespace

import pytest
import torch

from otter_ray.errors import ExportError
from otter_ray.export import gate


def differing(measured, recorded, has_any_scale=False):
    """The tolerance that the file's metric is outside of, compared with what training recorded."""
    model = SimpleNamespace(HAS_ANY_SCALE=has_any_scale)
    reference = SimpleNamespace(model=model, precision=torch.float32)
    metrics = {"m": measured}
    result = SimpleNamespace(metrics=metrics, pytorch_metrics=metrics, recorded=recorded, metric="m")
    return gate._differing(result, reference).get("the checkpoint's")


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


def test_whatever_a_measurement_raises_is_told():
    def measure(*args):
        raise LookupError("no such batch")

    with pytest.raises(ExportError, match="measuring the model failed: LookupError: no such batch"):
        gate._measure(SimpleNamespace(measure=measure), None, None, None)
