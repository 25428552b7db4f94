"""A study on a GPU that two trials share. Runs where there is one."""

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]


def test_two_trials_share_a_gpu(tune, tiny_sets, tmp_path):
    space = tmp_path / "shared.yaml"
    space.write_text(
        "parameters:\n  optimizer.options.lr: {type: float, low: 1.0e-3, high: 1.0e-2}\n"
        "study: {num_trials: 4, resources: {gpus_per_worker: 0.5}}\n"
    )
    arguments = [*tiny_sets, "--set", "trainer.accelerator=gpu", "--space", space, "--name", "shared"]
    code, output = tune("demo", *arguments, folder=tmp_path).end()
    assert code == 0, output
    assert "of 1 CPU and 0.5 GPUs each" in output
    for best in (tmp_path / "runs/demo/shared/trials").glob("*/checkpoints/best.ckpt"):
        assert torch.load(best, map_location="cpu", weights_only=True)["device"] == "cuda"
