"""What the builders make of a config."""

import pytest
import torch

from otter_ray.train.builders import (
    MixedTraining,
    build_dataloader,
    build_model,
    with_classes,
    without_pretrained,
)


@pytest.fixture(scope="module")
def short(tiny_config):
    """Two epochs of two steps."""
    return tiny_config.with_values({"dataset.train_options.options.length_of_dataset": 32})


@pytest.mark.parametrize(
    ("precision", "clip", "fused"),
    [
        (32, 5, True),
        ("bf16-mixed", 5, True),
        ("bf16-true", 5, True),
        ("16-mixed", None, None),
    ],
)
def test_where_an_optimizer_is_fused(short, precision, clip, fused):
    config = short.with_values({"trainer.precision": precision, "trainer.gradient_clip_val": clip})
    optimizer = build_model(with_classes(config, 40))._build_optimizer()
    assert optimizer.defaults["fused"] is fused


class Queries(torch.nn.Module):
    """Learned queries, and a projection."""

    def __init__(self):
        super().__init__()
        self.queries, self.project = torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Linear(4, 4)

    def no_weight_decay(self):
        return {"queries"}


def test_a_part_says_which_of_its_weights_are_not_decayed(short):
    model = build_model(with_classes(short, 40))
    model.neck = torch.nn.Sequential(Queries())
    decayed = {
        id(parameter)
        for group in model._build_optimizer().param_groups
        for parameter in group["params"]
        if group["weight_decay"]
    }
    queries = model.neck[0]
    assert [id(each) in decayed for each in queries.parameters()] == [False, True, False]


def test_loaders_leave_a_cpu_to_the_training():
    data = list(range(8))
    assert build_dataloader(data, {"batch_size": -1, "num_workers": 6}, 4, cpus=3).num_workers == 2
    assert build_dataloader(data, {"batch_size": -1, "num_workers": 6}, 4, cpus=1).num_workers == 0
    assert build_dataloader(data, {"batch_size": -1}, 4, cpus=1).batch_size == 4
    assert build_dataloader(data, {"batch_size": 3}, 4, cpus=1).batch_size == 3


def test_a_check_downloads_no_weights_for_any_part(tiny_config):
    values = {"model.head.options.pretrained": True, "model.backbone.options.pretrained": True}
    config = without_pretrained(tiny_config.with_sets(values))
    assert not any(config.get(key) for key in values)
    assert config.get("model.head.options.in_dim") == tiny_config.get("model.head.options.in_dim")


def test_bf16_clips_the_gradients_of_a_fused_optimizer():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer = torch.optim.AdamW([weight], fused=True)
    MixedTraining("bf16-mixed", "cpu").clip_gradients(optimizer, clip_val=1.0)
    assert weight.grad.tolist() == pytest.approx([0.6, 0.8])
