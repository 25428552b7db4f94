"""A sample of timm's models as backbones. `python -m tests.support.timm_backbones` tries them all."""

import pytest

from tests.support.timm_backbones import OK, SIZES, verdict

SQUARE, WIDE = SIZES
# A small model of each of these: with convolutions, windows and tokens, and with what export folds.
SAMPLE = [
    "convnext_atto", "cs3darknet_s", "edgenext_xx_small", "efficientvit_b0", "fastvit_t8", "hgnetv2_b0",
    "levit_128s", "mambaout_femto", "mobilenetv4_conv_small_035", "mobilevitv2_050", "pit_ti_224",
    "pvt_v2_b0", "repvit_m0_9", "resnet10t", "starnet_s050", "swinv2_tiny_window8_256",
    "vit_tiny_patch16_224",
]  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_passes_at_a_size_that_is_not_its_own(name):
    assert verdict(name, WIDE) == OK


@pytest.mark.parametrize("name", ["inception_v3", "swin_tiny_patch4_window7_224"])
def test_a_model_passes_at_the_usual_size(name):
    assert verdict(name, SQUARE) == OK
