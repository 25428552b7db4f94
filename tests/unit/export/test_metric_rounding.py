"""Which outputs decide whether rounding explains that a metric differs."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from otter_ray.errors import ExportError
from otter_ray.export.reference import ReferenceModel, scored_in, torch_outputs
from otter_ray.export.rounding import rounding_range

IMAGES = torch.ones(2, 3)


class Scaling(nn.Module):
    """Its products are as large as its scale."""

    def __init__(self, scale):
        super().__init__()
        self.layer = nn.Linear(3, 1, bias=False)
        nn.init.constant_(self.layer.weight, scale)

    def forward(self, images):
        return self.layer(images * self.layer.weight)


class InsistsOn(Scaling):
    """A layer of somebody's own, which refuses every precision but one in its own way."""

    def __init__(self, precision):
        super().__init__(1.0)
        self.precision = precision

    def forward(self, images):
        outputs = super().forward(images)
        if outputs.dtype not in (torch.float32, self.precision):
            raise LookupError("no kernel")
        return outputs


def found(config, wrapped, score_range=lambda exact, others, labels, metric: others):
    """The outputs that `score_range` gets besides the exact ones."""
    model = SimpleNamespace(
        exported_batch=lambda batch: ([batch], None),
        reduce_outputs=lambda outputs, labels: outputs,
        score_range=score_range,
    )
    reference = ReferenceModel(config, model, wrapped, "valid_auc", 0.5, torch.float16)
    return rounding_range(reference, [IMAGES], partial(torch_outputs, wrapped), None)


def test_an_overflow_of_float16_explains_nothing(tiny_config):
    assert len(found(tiny_config, Scaling(1.0))) == 3
    others = found(tiny_config, Scaling(1e3))
    assert len(others) == 2
    assert all(each.isfinite().all() for each in others)


def test_a_layer_may_refuse_a_precision_in_any_way(tiny_config):
    assert found(tiny_config, InsistsOn(torch.float16)) is None  # there are no exact outputs
    assert len(found(tiny_config, InsistsOn(torch.float64))) == 2


def test_a_failing_score_range_refuses_the_model(tiny_config):
    def fails(exact, others, labels, metric):
        raise ZeroDivisionError("no pairs")

    with pytest.raises(ExportError, match="score_range failed: ZeroDivisionError: no pairs"):
        found(tiny_config, Scaling(1.0), fails)


@pytest.mark.parametrize(
    ("record", "precision", "expected"),
    [
        ({"scored_in": "float32"}, "bf16-mixed", torch.float32),
        ({"scored_in": "bfloat16"}, "bf16-true", torch.bfloat16),
        # Version 0.1 did not say it, and validated in the precision of the training.
        ({"device": "cpu"}, "bf16-mixed", torch.bfloat16),
        ({"device": "cpu"}, 32, torch.float32),
        ({"device": "cuda"}, None, torch.float16),
        ({"scored_in": ["torn"], "device": "cpu"}, "16-mixed", torch.float16),
    ],
)
def test_how_exact_a_recorded_metric_is(record, precision, expected):
    assert scored_in(record, precision) == expected
