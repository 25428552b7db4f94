import json

import torch

from otter_ray.config import load_config
from otter_ray.train.builders import build_model
from otter_ray.train.model.complexity import model_stats


class Hand(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.line = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.nn.Linear(4, 5)

    def forward(self, img):
        return self.line(self.conv(img).mean(dim=(2, 3)))


def test_figures_that_can_be_counted_by_hand():
    model = Hand().train()
    macs = 32 * 32 * 4 * 3 * 9 + 4 * 5
    parameters = 4 * 3 * 9 + 4 * 5 + 5
    found = model_stats(model, [torch.rand(1, 3, 32, 32)])
    assert found == {"flops": 2 * macs, "macs": macs, "parameters": parameters}
    assert model.training


def test_a_part_in_another_mode_keeps_it():
    model = Hand().train()
    model.conv.eval()
    model_stats(model, [torch.rand(1, 3, 8, 8)])
    assert [model.training, model.conv.training, model.line.training] == [True, False, True]


def test_a_model_that_gives_a_module_a_view_of_a_parameter():
    class Tokens(Hand):
        def __init__(self):
            super().__init__()
            self.token, self.norm = torch.nn.Parameter(torch.ones(1, 5)), torch.nn.LayerNorm(5)

        def forward(self, img):
            return super().forward(img) + self.norm(self.token.expand(1, -1))

    model = Tokens()
    assert model_stats(model, [torch.rand(1, 3, 8, 8)])["macs"] > 0
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_standalone_run_writes_them(tiny_run):
    figures = json.loads((tiny_run.folder / "model.json").read_text())
    model = build_model(load_config(str(tiny_run.folder / "config.yaml")))
    assert figures["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert figures["parameters_of"].keys() == {"backbone", "head", "loss"}
    assert sum(figures["parameters_of"].values()) == figures["parameters"]
    assert figures["flops"] == 2 * figures["macs"] > 0
