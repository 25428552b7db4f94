"""What a command imports before it has anything to say."""

import subprocess
import sys

import pytest

# Says on its last line of stdout what has been imported.
RUN = """
import atexit, sys, typer
heavy = ("torch", "ray", "lightning", "optuna", "numpy")
atexit.register(lambda: print("\\nimported:", *(name for name in heavy if name in sys.modules)))
from otter_ray.%s.__main__ import %s
sys.argv = ["otter_ray", *%s]
typer.run(%s)
"""


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("tune", ["--help"], "Search a config's space"),
        ("train", ["--help"], "Train one config"),
        ("export", ["--help"], "Export a trained model"),
        ("report", ["--help"], "Print a study's trials"),
        ("doctor", ["--help"], "Check this machine"),
        ("init", ["--help"], "Make a new project"),
        ("tune", ["demo", "--set", "trainer.max_epochs=0"], "trainer.max_epochs: 0 is too small"),
        ("tune", ["demo", "--space", "absent"], "no search space"),
        ("tune", ["demo", "--space", "lr.yaml"], "Lower it, or raise trainer.max_epochs."),
        ("tune", ["demo", "--export", "nonsense"], "--export: 'nonsense' is not a selection"),
        ("tune", ["demo", "--time-budget", "soon"], "--time-budget: 'soon' is not a duration"),
        ("train", ["demo", "--set", "trainer.max_epochs=0"], "trainer.max_epochs: 0 is too small"),
        ("report", ["absent"], "holds no study.journal"),
    ],
)
def test_help_and_what_the_schema_sees_wait_for_no_import(tmp_path, command, arguments, says):
    (tmp_path / "lr.yaml").write_text(
        "parameters:\n  optimizer.options.lr: {type: float, low: 0.001, high: 0.01}\n"
        "study: {scheduler: {name: ASHA, options: {grace_period: 99}}}\n"
    )
    code = RUN % (command, command, arguments, command)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
