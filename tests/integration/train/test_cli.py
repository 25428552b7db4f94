import re
import signal
import subprocess
import sys

import pytest

from tests.support.commands import run_here

# Two steps in all: a run's start and end are what is tested.
SHORT = ["--set", "trainer.max_epochs=1", "--set", "dataset.train_options.options.length_of_dataset=32"]


@pytest.fixture
def train(command):
    return lambda *arguments: command("otter_ray.train", *arguments)


def test_help_names_the_commands_own_words():
    done = run_here("otter_ray.train", "--help")
    assert done.returncode == 0
    for word in ("--set", "--folder", "--resume", "otter_ray.export"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demp"], "no config 'demp'"),
        (["demo", "--set", "common.batch_sise=2"], "Did you mean 'batch_size'"),
        (["demo", "--metric", "valid_fpr"], "Did you mean 'valid_fpr@4'"),
    ],
)
def test_a_mistake_ends_with_one_message(train, arguments, says, tmp_path):
    done = train(*arguments, "--folder", tmp_path / "run")
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


def test_a_mode_that_is_neither_max_nor_min():
    done = run_here("otter_ray.train", "demo", "--mode", "maximum")
    assert done.returncode == 2
    assert "'maximum' is not one of" in done.stderr


def test_a_real_run(train, tiny_sets, tmp_path):
    done = train("demo", *tiny_sets, *SHORT, "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"epoch 1: .*loss \d.*valid_fpr@4 \d", done.stdout)
    assert (
        done.stdout.strip().splitlines()[-1] == f"best checkpoint: {tmp_path / 'checkpoints' / 'best.ckpt'}"
    )
    assert (tmp_path / "config.yaml").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_with_130(tiny_sets, tmp_path):
    line = [sys.executable, "-m", "otter_ray.train", "demo", *tiny_sets, "--folder", str(tmp_path)]
    line += ["--set", "trainer.max_epochs=10000"]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True) as process:
        while "epoch 1:" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_the_console_script_finds_a_project_in_the_current_folder(tmp_path):
    """As `python -m` does. Python puts a script's own folder on the path, not the current one (-P)."""
    (tmp_path / "letters_project.py").write_text("class Nothing: ...")
    code = "from otter_ray.__main__ import main; main()"
    line = [sys.executable, "-P", "-c", code, "train", "demo", "--set", "project=letters_project"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        "no class 'Backbone' in letters_project. Import your own classes in letters_project.py."
        in done.stderr
    )
