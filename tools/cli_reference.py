"""The page `docs/reference/cli.md`, from the commands' functions. tools/reference.py writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo

from otter_ray.__main__ import COMMANDS

HEAD = """# The command line

`otter-ray COMMAND` and `python -m otter_ray.COMMAND` are the same. Exit codes: 0 done, 1 no model passed the
gate, 2 a mistake in what was given, 130 interrupted.
"""
WORDS = {int: "N", float: "X", Path: "PATH"}


def prose(text: str) -> str:
    """Write a command's docstring as Markdown: its examples become one block of code."""
    parts: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = "\n".join(line.strip() for line in paragraph.splitlines())
        is_command = re.match(r"(cd|python|torchrun|otter-ray) ", lines)
        if is_command and parts and parts[-1].endswith("\n```"):
            parts[-1] = parts[-1].removesuffix("```") + lines + "\n```"
        else:
            parts.append(f"```bash\n{lines}\n```" if is_command else lines)
    return "\n\n".join(parts)


def value_word(annotation: Any) -> str:
    """Return the word that stands for an option's value: `N`, `max|min`."""
    kinds = [part for part in get_args(annotation) if part is not NoneType] or [annotation]
    kinds = [*(get_args(kinds[0]) or kinds)]
    if all(isinstance(choice, str) for choice in kinds):
        return "|".join(kinds)
    members = getattr(kinds[0], "__members__", {})
    return "|".join(member.value for member in members.values()) or WORDS.get(kinds[0], "TEXT")


def row(parameter: inspect.Parameter, hint: Any) -> str:
    """Describe one argument or option."""
    annotation, info = get_args(hint)
    default = parameter.default
    if isinstance(info, ArgumentInfo):
        spelling = info.metavar or parameter.name.upper()
    else:
        # Typer takes the first name for a default, as it is one outside of `Annotated`.
        given = [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str)]
        names = ", ".join(given or [f"--{parameter.name.replace('_', '-')}"])
        spelling = names if annotation is bool else f"{names} {info.metavar or value_word(annotation)}"
    meaning = (info.help or "").replace("\\[", "[")
    # 0 == False: a number is a default to show.
    is_silent = any(default is value for value in (None, False, True, inspect.Parameter.empty))
    if "[default:" not in meaning and not is_silent:
        meaning += f" [default: {default}]"
    meaning = re.sub(r" \[default: (.+)\]$", r" Default: \1.", meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{spelling}`", meaning)) + " |"


def section(name: str, command: Callable[..., None]) -> str:
    """Describe one command."""
    hints = get_type_hints(command, include_extras=True)
    rows = [row(parameter, hints[key]) for key, parameter in inspect.signature(command).parameters.items()]
    table = "\n".join(["| argument or option | meaning |", "|---|---|", *rows])
    return f"## {name}\n\n{prose(command.__doc__ or '')}\n\n{table}\n"


def cli_page() -> str:
    """Write the reference of the command line."""
    commands = {name: getattr(import_module(f"otter_ray.{name}.__main__"), name) for name in COMMANDS}
    return "\n".join([HEAD, *(section(name, command) for name, command in commands.items())])
