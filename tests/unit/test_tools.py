"""The tools that make and check the documentation."""

import inspect
from typing import Annotated

import pytest
import typer

from tools import check_docs, cli_reference, pictures

LINES = {
    "base config:": "base config: 0.2; winner: 0.4",
    pictures.GAIN: "gain on the test split: +0.3",
    "gate passed:": "gate passed: opset 16",
    pictures.TEST: "test: 0.5",
    "report:": "report: runs/report.html",
    "onnx:": "onnx: runs/demo.onnx",
}


def test_the_help_of_a_command_is_a_text_that_users_see(tmp_path, monkeypatch):
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    code = '"""The module goes on."""\n\ndef command():\n    """Resume what goes on."""\n\n\nX = "amiss"\n'
    found = {}
    for name in ("__main__.py", "module.py"):
        (tmp_path / name).write_text(code)
        found[name] = [*check_docs.retired_in_texts(tmp_path / name)]
    assert len(found["module.py"]) == 1
    assert "'amiss'" in found["module.py"][0]
    assert sorted(line.split(": ")[0] for line in found["__main__.py"]) == ["__main__.py:4", "__main__.py:7"]


@pytest.mark.parametrize(
    ("default", "shown"), [(0, " Default: 0."), (1, " Default: 1."), (False, ""), (True, ""), (None, "")]
)
def test_a_number_is_a_default_that_the_reference_shows(default, shown):
    hint = Annotated[int, typer.Option(help="How many.")]
    parameter = inspect.Parameter("many", inspect.Parameter.KEYWORD_ONLY, default=default)
    assert cli_reference.row(parameter, hint) == f"| `--many N` | How many.{shown} |"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page that quotes the demo in two places."""
    page = tmp_path / "page.md"
    blocks = [f"<!-- pictures: {name} -->\n\nold\n\n<!-- pictures -->\n" for name in pictures.QUOTED]
    page.write_text("prose\n".join(blocks))
    monkeypatch.setattr(pictures, "PAGES", [page])
    return page


def test_each_block_quotes_its_own_lines(page):
    pictures.quote("\n".join(["test: an earlier one", *LINES.values()]))
    first, second = page.read_text().split("prose\n")
    assert "\n".join(LINES.values()) in first
    assert f"\n\n```text\n{LINES[pictures.GAIN]}\n{LINES[pictures.TEST]}\n```\n\n<!-- pict" in second
    assert "old" not in page.read_text()


def test_a_line_or_a_block_that_is_missing_ends_the_tool(page):
    text = page.read_text()
    with pytest.raises(SystemExit, match="the demo printed no line that begins with 'onnx:'"):
        pictures.quote("\n".join([*LINES.values()][:-1]))
    assert page.read_text() == text
    page.write_text("prose")
    with pytest.raises(SystemExit, match="no page has a line"):
        pictures.quote("\n".join(LINES.values()))


def test_without_a_browser_no_demo_is_run(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["pictures.py"])
    monkeypatch.setattr(pictures, "run_demo", None)
    with pytest.raises(SystemExit, match="no Chromium is on PATH"):
        pictures.main()
