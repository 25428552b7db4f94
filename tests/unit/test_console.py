"""Who hears what otter_ray has to say: a command's user, or the program that embeds it."""

import io
import logging
import os
import subprocess
import sys

import pytest
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from otter_ray.cli import cli_errors
from otter_ray.config import load_config
from otter_ray.console import NOTICE, Printable, log_to_console, notice, plain_console
from otter_ray.errors import StudyError
from otter_ray.space import SearchProblem, load_space
from otter_ray.tune.cluster.planner import log_plan, plan_for
from otter_ray.tune.cluster.resources import Node

LOGGER = logging.getLogger("otter_ray.somewhere")


def say():
    """One message of each level."""
    LOGGER.info("a note")
    notice(LOGGER, "a [result]", style="bold")
    LOGGER.warning("odd")
    LOGGER.error("it failed")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_command_prints_them_a_quiet_one_without_notes(quiet):
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=True, color_system="standard", markup=False, highlight=False
    )
    with log_to_console(console, quiet):
        say()
    say()
    notes = [] if quiet else ["a note"]
    loud = ["\x1b[1ma [result]\x1b[0m", "\x1b[33mwarning: odd\x1b[0m", "\x1b[31mit failed\x1b[0m"]
    assert output.getvalue().splitlines() == notes + loud


def test_a_program_that_embeds_us_gets_records_and_its_stdout_stays_empty(caplog, capsys):
    caplog.set_level(logging.INFO, "otter_ray")
    config, space = load_config("demo", ["trainer.accelerator=cpu"]), load_space("demo")
    log_plan(plan_for(SearchProblem(config, space), [Node(4, 1)], []), config)
    notice(LOGGER, "the result")
    assert [(r.name, r.levelno) for r in caplog.records] == [
        ("otter_ray.tune.cluster.planner", logging.INFO),
        ("otter_ray.tune.cluster.planner", logging.WARNING),
        ("otter_ray.somewhere", NOTICE),
    ]
    assert caplog.records[0].getMessage().startswith("plan: ")
    assert capsys.readouterr() == ("", "")


def test_without_a_handler_only_python_shows_warnings():
    code = "import logging; from otter_ray.console import notice; logger = logging.getLogger('otter_ray.x')\n"
    code += "logger.info('a note'); notice(logger, 'a result'); logger.warning('odd')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "odd\n")


def test_a_table_in_a_pipe_has_a_line_for_each_row(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", output := io.StringIO())
    table = Table("trial", "changed in the base config", box=None)
    table.add_row("7", "a long list of changes " * 30)
    plain_console().print(table)
    assert len(output.getvalue().splitlines()) == 2
    monkeypatch.setenv("COLUMNS", "80")
    plain_console().print(table)
    assert len(output.getvalue().splitlines()) > 4


HARD = """
import sys
from rich.table import Table
from otter_ray.console import lasting_streams, plain_console
lasting_streams()
table = Table("curve", "name")
table.add_row("▁█", "專案 \\udcff")
console = plain_console()
console.print(table)
console.print("cut off" * 9, width=20, no_wrap=True, overflow="ellipsis")
print("± ▂")
print("▂ 專", file=sys.stderr)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "utf-8:strict"])
def test_what_an_encoding_lacks_is_printed_plainly(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", HARD], capture_output=True, env=environment, check=True)
    output, error = (text.decode(encoding.partition(":")[0]) for text in (done.stdout, done.stderr))
    is_whole = encoding.startswith("utf-8")
    for word in ["▁█", "專案", "\\udcff", "…"] if is_whole else ["_#", "\\u5c08\\u6848", "\\udcff", "~\n"]:
        assert word in output
    assert error == ("▂ 專\n" if is_whole else ". \\u5c08\n")


def test_a_reader_that_leaves_costs_nothing(tmp_path):
    """`otter-ray tune demo | head`, a terminal that is closed, a log on a full disk."""
    code = "from otter_ray.console import lasting_streams, plain_console\nlasting_streams()\n"
    code += "text = 99 * 'x'\nfor number in range(2000):\n    plain_console().print(text)\n    print(text)\n"
    code += "open('done', 'w').close()"
    reading, writing = os.pipe()
    for output in (writing, os.open("/dev/full", os.O_WRONLY)):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=output, stderr=subprocess.PIPE, cwd=tmp_path
        )
        os.close(output)
        if output == writing:
            os.read(reading, 10)
            os.close(reading)
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, b"")
        (tmp_path / "done").unlink()


def test_a_command_without_standard_streams_runs(tmp_path):
    code = "from otter_ray.tune.display.factory import choose_reporter\nchoose_reporter().show('a table')\n"
    code += "open('done', 'w').close()"
    line = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(line, cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "done").exists()


HOSTILE = "\x1b]0;owned\x07an \x1b[31merror\x1b[0m\x07 \x1b[2J"


def test_no_text_moves_the_cursor_of_a_terminal(monkeypatch):
    """Texts, tables, records and the live picture; only rich's own sequences are left."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console = plain_console()
    console.file = io.StringIO()
    table = Table(HOSTILE)
    table.add_row(Text(HOSTILE, style="bold"))
    with log_to_console(console):
        LOGGER.error(HOSTILE)
    console.print(HOSTILE, table)
    with Live(Printable(Text(HOSTILE)), console=console, auto_refresh=False, transient=True) as live:
        live.refresh()
        console.print(HOSTILE)
    written = console.file.getvalue()
    assert written.count("an error") >= 6
    assert not [text for text in ("\x07", "\x1b[2J", "\x1b]") if text in written]


def test_what_is_logged_keeps_no_secret(monkeypatch):
    monkeypatch.setenv("GITHUB_PAT", "planted_pat")
    console = Console(file=io.StringIO(), markup=False, highlight=False)
    with log_to_console(console):
        LOGGER.warning("cannot clone https://planted_pat@host: api_key=abc")
    assert console.file.getvalue() == "warning: cannot clone https://***@host: api_key=***\n"


def test_an_error_of_a_command_is_printed_without_either(capsys, monkeypatch):
    with pytest.raises(typer.Exit), cli_errors():
        raise StudyError(f"trial 3: {HOSTILE} Authorization: Bearer abc.def.ghi")
    assert capsys.readouterr().err == "error: trial 3: an error  Authorization: ***\n"
