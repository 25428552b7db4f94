"""Makes the pictures of the documentation, and the figures that its pages quote, from one run of the demo.

    python tools/pictures.py                 runs the demo in a terminal of its own, then all of the below
    python tools/pictures.py RUNS/demo/NAME  takes a study that it has run: all but the live view

It writes `docs/images/live*.svg`, `docs/images/report*.png`, and in every page what stands between the lines
`<!-- pictures: NAME -->` and `<!-- pictures -->`, with a name of `QUOTED`. The report is opened in Chromium.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import struct
import sys
import tempfile
import time
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from termios import TIOCSWINSZ

import pyte
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI, TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
COLUMNS, ROWS = 100, 30
AT = 9  # trials that have ended in the picture of the live view
COMMAND = "python -m otter_ray.tune demo"
PRINTED = "printed.txt"  # in the study's folder
LONGEST = 110  # characters of a quoted line
LIGHT = TerminalTheme(
    (246, 248, 250),
    (36, 41, 47),
    [(36, 41, 47), (207, 34, 46), (17, 99, 41), (154, 103, 0), (9, 105, 218), (130, 80, 223), (27, 124, 131),
     (110, 119, 129)],
)  # fmt: skip
THEMES = {"live.svg": MONOKAI, "live-light.svg": LIGHT}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GAIN, TEST = "gain on the test split:", "test:"
# Name of a block -> the last lines of a study that it quotes, in this order.
QUOTED = {
    "end of the demo": ("base config:", GAIN, "gate passed:", TEST, "report:", "onnx:"),
    "test split of the demo": (GAIN, TEST),
}
NAMES = {"brown": "yellow"}  # pyte -> rich
BLOCK = re.compile(r"(<!-- pictures: ([^\n]+) -->\n\n?)(.*?)(<!-- pictures -->)", re.DOTALL)


def find_browser() -> str:
    """Return the path of a Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or sys.exit("no Chromium is on PATH. Install one, for example: sudo apt install chromium")


def run_demo(name: str) -> tuple[list[Text] | None, str]:
    """Run the demo in a terminal.

    Args:
        name: Of the study.

    Returns:
        The lines of the live view when `AT` trials had ended, and all that was printed.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        os.execv(sys.executable, [sys.executable, "-m", "otter_ray.tune", "demo", "--name", name])
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    screen = pyte.HistoryScreen(COLUMNS, ROWS, history=10_000)
    stream, printed, taken = pyte.ByteStream(screen), b"", None
    while True:
        select.select([terminal], [], [])
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # Linux's end of a terminal
            data = b""
        if not data:
            break
        printed += data
        stream.feed(data)
        taken = taken or live_view(screen)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code:
        sys.exit(f"the demo ended with {code}:\n{printed.decode(errors='replace')}")
    return taken, printed.decode(errors="replace")


def live_view(screen: pyte.Screen) -> list[Text] | None:
    """Return the lines of the live view, once as many trials have ended and others run."""
    lines = screen.display
    heads = [row for row, line in enumerate(lines) if re.search(r"\d+ of \d+ trials done \(.*running", line)]
    if not heads or int(re.search(r"(\d+) of \d+ trials done", lines[heads[-1]])[1]) < AT:
        return None
    rows = range(heads[-1], max(row for row, line in enumerate(lines) if line.strip()) + 1)
    return [styled(screen, row) for row in rows]


def styled(screen: pyte.Screen, row: int) -> Text:
    """Return one line of a terminal with its colours."""
    text = Text()
    for column in range(screen.columns):
        cell = screen.buffer[row][column]
        colour = NAMES.get(cell.fg, cell.fg)
        colour = f"#{colour}" if re.fullmatch("[0-9a-f]{6}", colour) else colour.replace("bright", "bright_")
        text.append(cell.data, Style(color=None if colour == "default" else colour, bold=cell.bold))
    text.rstrip()
    return text


def draw_live(lines: list[Text]) -> None:
    """Write the live view as SVG, in dark and in light."""
    for file, theme in THEMES.items():
        console = Console(width=COLUMNS, record=True, file=StringIO(), force_terminal=True)
        console.print(Text(f"$ {COMMAND}\n", style="bold"))
        for line in lines:
            console.print(line, no_wrap=True, crop=True)
        svg = console.export_svg(title="", theme=theme, unique_id="live")
        # Fonts would be fetched from elsewhere.
        svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
        svg = svg.replace(
            "font-family: Fira Code, monospace", "font-family: DejaVu Sans Mono, Menlo, monospace"
        )
        (IMAGES / file).write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def photograph(report: Path, chromium: str) -> None:
    """Write the beginning of the report as PNG, in light and in dark, without the folders of this machine.

    Args:
        report: The study's.
        chromium: The browser's path.
    """
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        copy = Path(folder) / report.name
        copy.write_text(report.read_text().replace(f"{ROOT}/", ""))
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for scheme, file in (("light", "report.png"), ("dark", "report-dark.png")):
            page = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme=scheme)
            page.goto(copy.as_uri())
            page.wait_for_timeout(1500)  # plotly draws
            page.screenshot(path=IMAGES / file)
        browser.close()


def quote(printed: str) -> None:
    """Write the demo's last lines into the pages that quote them.

    Exits if the demo did not print one of them, or no page quotes any.
    """
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed).replace("\r", "").replace(f"{ROOT}/", "")
    lines = [line.rstrip() for line in plain.splitlines()]
    lines = [line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..." for line in lines]
    heads = [head for heads in QUOTED.values() for head in heads]
    found = {head: line for head in heads for line in lines if line.startswith(head)}  # the last of several
    if missing := [head for head in heads if head not in found]:
        sys.exit(f"the demo printed no line that begins with {missing[0]!r}. Change QUOTED.")
    texts = {page: page.read_text() for page in PAGES}
    if not any(map(BLOCK.search, texts.values())):
        sys.exit("no page has a line <!-- pictures: end of the demo -->. Restore it in README.md.")

    def written(match: re.Match[str]) -> str:
        quoted = "\n".join(found[head] for head in QUOTED[match[2]])
        return f"{match[1]}```text\n{quoted}\n```\n\n{match[4]}"

    for page, text in texts.items():
        if (new := BLOCK.sub(written, text)) != text:
            page.write_text(new)


def main() -> None:
    """Make everything."""
    chromium = find_browser()
    if given := sys.argv[1:]:
        study = Path(given[0])
        printed = (study / PRINTED).read_text()
    else:
        name = time.strftime("%Y%m%d-%H%M%S")
        study = ROOT / "runs/demo" / name
        lines, printed = run_demo(name)
        if lines:
            draw_live(lines)
        (study / PRINTED).write_text(printed)
    quote(printed)
    photograph(study / "report.html", chromium)


if __name__ == "__main__":
    main()
