"""A sample of timm's models as backbones. `python -m tests.support.timm_backbones` tries them all."""

import pytest

from tests.support.timm_backbones import OK, SIZES, verdict

SQUARE, WIDE = SIZES
# A small model of each of thirty architectures.
SAMPLE = [
    "coat_lite_tiny", "convnext_atto", "cs3darknet_s", "davit_tiny", "dla46_c", "edgenext_xx_small",
    "efficientvit_b0", "fastvit_t8", "ghostnet_050", "hgnetv2_b0", "levit_128s", "mambaout_femto",
    "maxvit_rmlp_pico_rw_256", "mobilenetv3_small_050", "mobilenetv4_conv_small_035",
    "mobileone_s0", "mobilevit_xxs", "mobilevitv2_050", "pit_ti_224", "pvt_v2_b0", "regnetx_002",
    "repvgg_a0", "repvit_m0_9", "resnet10t", "rexnet_100", "shvit_s1", "starnet_s050",
    "swinv2_tiny_window8_256", "tinynet_e", "vit_tiny_patch16_224",
]  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_passes_at_a_size_that_is_not_its_own(name):
    assert verdict(name, WIDE) == OK


@pytest.mark.parametrize("name", ["inception_v3", "swin_tiny_patch4_window7_224"])
def test_a_model_passes_at_the_usual_size(name):
    assert verdict(name, SQUARE) == OK
