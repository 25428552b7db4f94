"""Checks the documentation: links lead somewhere, snippets run, references follow from the source.

    python tools/check_docs.py

A fenced block whose first line ends in `run` is run by bash at the root of the project, its `python` being
this one; a `yaml space` block must be a search space of the config `demo`. Links to this project's files on
GitHub must name files that are here. Other sites are not asked. A test that the notes on upstream name must
exist. Neither a page nor a text of the package that a user sees has a word that
docs/contributing/style.md retires.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from otter_ray.errors import OtterError
from otter_ray.tune.request import load_problem

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w+ (?:run|space))\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# Pages of the site cannot link to files outside of docs/ in another way.
HERE = re.compile(r"https://github\.com/DocsaidLab/otter_ray/(?:blob|tree)/main/([^#]+)")
STYLE = ROOT / "docs/contributing/style.md"
RETIRED = re.compile(
    r"\b(?:mend(?:ed|s|ing)?|anew|told|tells? of|goes on|went on|stands? in|wants|cannot be had|alike|beside"
    r"|looks at|amiss|likewise)\b|,\s+too(?=[.,;:)]|\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
UPSTREAM = ROOT / "docs/contributing/upstream-notes.md"
TEST, DEFINED = re.compile(r"`(test_\w+)`"), re.compile(r"def (test_\w+)")
CODE = re.compile(r"`[^`\n]*`")


def anchors(page: Path) -> set[str]:
    """Return what can be linked to in a page, as GitHub names it."""
    text = FENCED.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    """Links of a page that lead nowhere."""
    for link in LINK.findall(CODE.sub("", FENCED.sub("", page.read_text()))):
        if link.startswith(("https://", "http://", "mailto:")):
            if (file := HERE.match(link)) and not (ROOT / file[1]).exists():
                yield f"{page.relative_to(ROOT)}: {link}: there is no such file"
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f"{page.relative_to(ROOT)}: {link}: there is no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{page.relative_to(ROOT)}: {link}: {target.name} has no such heading"


def retired_words(page: Path) -> Iterator[str]:
    """Words of a page, outside of its code, that the style guide retires."""
    text = page.read_text()
    for block in (FENCED, CODE):
        text = block.sub(lambda found: re.sub(r"[^\n]", "x", found[0]), text)
    for found in RETIRED.finditer(text) if page != STYLE else ():
        line = text.count("\n", 0, found.start()) + 1
        yield f"{page.relative_to(ROOT)}:{line}: {found[0]!r}: see {STYLE.name}"


def retired_in_texts(file: Path) -> Iterator[str]:
    """Words of a module's texts that the style guide retires. Users see no docstring but a command's."""
    tree = ast.parse(file.read_text())
    # A statement that is a text alone: a docstring, or one below an attribute.
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    if file.name == "__main__.py":
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        alone -= {id(node.body[0].value) for node in functions if ast.get_docstring(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            for found in RETIRED.finditer(node.value):
                yield f"{file.relative_to(ROOT)}:{node.lineno}: {found[0]!r}: see docs/contributing/style.md"


def missing_tests() -> Iterator[str]:
    """Find tests that the notes on upstream name and that do not exist."""
    known = {name for file in ROOT.glob("tests/**/*.py") for name in DEFINED.findall(file.read_text())}
    for name in TEST.findall(UPSTREAM.read_text()):
        if name not in known:
            yield f"{UPSTREAM.relative_to(ROOT)}: {name}: there is no such test"


def failing_snippets(page: Path, environment: dict[str, str]) -> Iterator[str]:
    """Snippets of a page that do not do what they are shown for."""
    for kind, text in FENCE.findall(page.read_text()):
        if kind == "yaml space":
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "space.yaml").write_text(text)
                try:
                    load_problem("demo", f"{folder}/space.yaml", [])
                except OtterError as exc:
                    yield f"{page.relative_to(ROOT)}: {exc}"
            continue
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            output = (done.stdout + done.stderr).strip()
            yield f"{page.relative_to(ROOT)}: exit code {done.returncode}:\n{text}{output}"


def main() -> None:
    """Print what is wrong, and exit with code 1 if anything is."""
    problems = [problem for page in PAGES for problem in broken_links(page)]
    problems += missing_tests()
    written = [*PAGES, *sorted(ROOT.glob("otter_ray/**/*.md"))]
    problems += [problem for page in written for problem in retired_words(page)]
    problems += [
        problem for file in sorted(ROOT.glob("otter_ray/**/*.py")) for problem in retired_in_texts(file)
    ]
    reference = [sys.executable, str(ROOT / "tools/reference.py"), "--check"]
    if (done := subprocess.run(reference, capture_output=True, text=True, check=False)).returncode:
        problems.append(done.stderr.strip())
    with tempfile.TemporaryDirectory() as folder:
        # What a snippet makes is made elsewhere.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "TMP": folder}
        for page in PAGES:
            problems += failing_snippets(page, environment)
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
