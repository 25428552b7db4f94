"""`otter-ray COMMAND` is `python -m otter_ray.COMMAND`, and as quick to say what it does."""

import inspect
import os
import re
import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

import otter_ray
from otter_ray.__main__ import COMMANDS, main


@pytest.fixture
def otter(monkeypatch, capsys):
    """Runs the command; gives its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_function_of_its_package(otter, name):
    alone = typer.Typer(add_completion=False)
    alone.command()(getattr(import_module(f"otter_ray.{name}.__main__"), name))
    own = CliRunner().invoke(alone, ["--help"], env={"COLUMNS": "200"})
    code, output = otter(name, "--help")
    assert (own.exit_code, code) == (0, 0)
    # The first lines name the program.
    assert f"Usage: otter-ray {name} " in output
    assert output.splitlines()[2:] == own.output.splitlines()[2:]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_default_that_it_names(otter, name):
    """Rich takes what stands in brackets for markup, unless the bracket is escaped."""
    source = inspect.getsource(import_module(f"otter_ray.{name}.__main__"))
    shown = " ".join(otter(name, "--help")[1].replace("│", " ").split())
    for words in re.findall(r"\[(default: [^\]]+)\]", source):
        assert f"[{words}]" in shown


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("otter-ray stu", {"studies"}),
        ("otter-ray tune mrz_d", {"mrz_demo", "mrz_detection"}),
        ("otter-ray tune demo --set", {"--set", "--set-space"}),
        ("otter-ray tune demo --space uniq", {"unique_pool"}),
    ],
)
def test_the_shell_completes_commands_options_and_names(otter, monkeypatch, words, offered):
    monkeypatch.setenv("_OTTER_RAY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert set(otter()[1].split()) == offered


def test_version_and_mistakes(otter):
    assert otter("--version") == (0, f"otter-ray {otter_ray.__version__}\n")
    code, output = otter("tunne")
    assert code == 2
    assert "No such command 'tunne'" in output
    code, output = otter("tune", "demo", "--set", "trainer.max_epochs=0")
    assert code == 2
    assert "trainer.max_epochs: 0 is too small" in output


@pytest.mark.parametrize("arguments", ["--help", "tune --help", "--version"])
def test_it_waits_for_no_import(arguments):
    heavy = ("torch", "ray", "lightning", "optuna", "numpy", "pydantic")
    code = (
        "import atexit, sys; from otter_ray.__main__ import main; "
        f"atexit.register(lambda: print('imported:', [name for name in {heavy} if name in sys.modules])); "
        f"main({arguments.split()})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_can_be_read_on_an_ascii_terminal(name):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    line = [sys.executable, "-m", f"otter_ray.{name}", "--help"]
    done = subprocess.run(line, capture_output=True, env=environment, check=True)
    assert b"--help" in done.stdout
