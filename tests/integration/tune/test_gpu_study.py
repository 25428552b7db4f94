"""A study on a GPU that two trials share. Runs where there is one."""

import pytest
import torch

from otter_ray.tune.worker.gpu_memory import keep_to_share, used_memory

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


def test_a_trial_cannot_take_more_than_its_share():
    total = torch.cuda.mem_get_info()[1]
    try:
        keep_to_share(0.25)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.3 * total), dtype=torch.uint8, device="cuda")
        torch.empty(int(0.1 * total), dtype=torch.uint8, device="cuda")
        assert used_memory().peak >= int(0.1 * total)
        assert used_memory().total == total
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
