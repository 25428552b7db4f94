"""No model trains in a memory layout in which one of its operators overwrites memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from otter_ray.vision.backbones import Backbone
from otter_ray.vision.memory_format import fast_memory_format

# With glibc's checks of each block a single byte too far ends the process; without them one in two survives.
CHECKED = {"MALLOC_CHECK_": "3", "LD_PRELOAD": "libc_malloc_debug.so.0"}
STEPS = """
import torch
from otter_ray.vision.backbones import Backbone
from otter_ray.vision.memory_format import fast_memory_format

torch.set_num_threads(1)
model = Backbone("mobileone_s0").train()
layout = fast_memory_format(model)
model.to(memory_format=layout)
for step in range(2):
    images = torch.rand(2, 3, 224, 224).contiguous(memory_format=layout)
    model(images)[-1].mean().backward()
print("trained")
"""


def test_a_model_that_crashed_in_channels_last_trains():
    child = subprocess.run(
        [sys.executable, "-c", STEPS], env=os.environ | CHECKED, capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stdout) == (0, "trained\n"), child.stderr


@pytest.mark.parametrize(
    ("layer", "is_safe"),
    [
        (nn.Conv2d(3, 48, 1, stride=2), False),
        (nn.Conv2d(3, 48, 1), True),
        (nn.Conv2d(3, 48, 3, stride=2), True),
        (nn.Conv2d(12, 48, 1, stride=(1, 2)), False),
        (nn.Conv2d(16, 48, 1, stride=2), True),
        (nn.Conv2d(24, 48, 1, stride=2), True),
        (nn.Conv2d(24, 24, 1, stride=2, groups=24), True),
    ],
)
def test_the_layout_follows_from_the_layers(layer, is_safe):
    expected = torch.channels_last if is_safe else torch.contiguous_format
    assert fast_memory_format(nn.Sequential(nn.ReLU(), layer)) == expected


@pytest.mark.parametrize("name", ["lcnet_050", "mobilenetv3_small_050", "resnet10t", "efficientnet_lite0"])
def test_what_is_safe_keeps_the_faster_layout(name):
    with torch.device("meta"):
        assert fast_memory_format(Backbone(name)) == torch.channels_last
