"""The command, on a machine and a config that really are wrong."""

import os
import subprocess
import sys


def test_the_command_tells_everything_at_once(tmp_path):
    wrong = ["trainer.accelerator=gpu", "dataset.train_options.options.root=/absent"]
    sets = [part for text in wrong for part in ("--set", text)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "RAY_AUTH_MODE": "disabled",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    line = [sys.executable, "-m", "otter_ray.doctor", "demo", *sets, "--runs", tmp_path / "runs"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    gpu = "trainer.accelerator: 'gpu' but no GPU is visible. Set it to 'auto'"
    assert f"error   config    --set: {gpu}" in done.stdout
    assert "error   data      dataset.train_options.options.root: there is no /absent" in done.stdout
    assert "warning ray       RAY_AUTH_MODE is disabled" in done.stdout
    assert "ok      packages  Python 3." in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 errors, 1 warning")
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
