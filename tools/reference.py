"""Writes the pages of `docs/reference/` that follow from the code: config, search space, command line.

    python tools/reference.py            writes them
    python tools/reference.py --check    exit code 1 where a file is not what would be written

A key's meaning is the comment beside it in the schema's source; its rule is what an error message would say.
A command's options are those of its `--help`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from cli_reference import cli_page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from otter_ray.config import schema
from otter_ray.config.types import BY_COUNT, Rule
from otter_ray.space import parser as space_file
from otter_ray.space import scheduler_options as scheduler
from otter_ray.space import study_options as study

FOLDER = Path(__file__).parents[1] / "docs/reference"
GENERATED = "<!-- Written by tools/reference.py from the source: edit that. -->"
Model = type[BaseModel]

CONFIG = """# The config

A config is a YAML file, `configs/NAME.yaml`. This page lists what each section accepts, from the schema that
checks it. `-1` stands for a value that only the run knows. What goes to a class (`options:` below a `name:`)
is checked against that class's signature; [Coming from Otter](../explanation/coming-from-otter.md) lists the
classes. An error names the file, the line and a suggestion. Configs of a plain LightningModule have
[keys of their own](lightning.md).

Any key can be changed for one command, items of lists by number:

```bash run
python -m otter_ray.tune demo --dry-run --set trainer.max_epochs=8 --set callbacks.0.options.mode=max
```
"""
SPACE = """# The search space

A search space is a YAML file, `search_spaces/NAME.yaml`: what is searched around a config, and how. This page
lists its keys, from the schema that checks them. More about
[samplers and schedulers](samplers-and-schedulers.md),
[objectives and constraints](../how-to/objectives-and-constraints.md) and [finalists](../how-to/finalists.md).

```yaml space
parameters:
  optimizer.options.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  model.loss.options.s: {type: categorical, choices: [12, 16, 24]}
study:
  num_trials: 64
```

## parameters

The key is a dotted key of the config, or any name where `sets` says what it sets. Under one key may stand a
list of entries with conditions (`when`) that exclude each other.
"""


def comments(model: Model) -> dict[str, str]:
    """Return what is written beside each field, or above it."""
    found: dict[str, str] = {}
    above: list[str] = []
    field = ""
    for line in inspect.getsource(model).splitlines():
        begins = re.match(r"    (\w+): ", line)
        # A field that fills several lines ends with a line of that depth.
        field = begins[1] if begins else field if line.startswith(("     ", "    )")) else ""
        beside = re.search(r"\s# (.+)$", line) if not line.strip().startswith("#") else None
        if beside and field:
            found[field] = beside[1]
        elif begins and above:
            found[field] = " ".join(above)
        is_above = line.startswith("    # ")
        above = [*above, line.strip()[2:]] if is_above else []
    return found


def nested(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and what it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from nested(part)


def models_of(field: FieldInfo) -> list[Model]:
    """Sections that stand in a field."""
    return [
        part for part in nested(field.annotation) if inspect.isclass(part) and issubclass(part, BaseModel)
    ]


def rule(field: FieldInfo) -> str:
    """Describe in words what a field may hold."""
    found = [item for item in field.metadata if isinstance(item, Rule)]
    for part in nested(field.annotation):
        found += [
            item for item in get_args(part)[1:] if get_origin(part) is Annotated and isinstance(item, Rule)
        ]
    if models := models_of(field):
        if models[0] is scheduler.SchedulerOptions:
            return "[those of its kind](#the-schedulers-options)"
        is_list = any(get_origin(part) is list for part in nested(field.annotation))
        link = f"[{models[0].__name__}](#{models[0].__name__.lower()})"
        if any(BY_COUNT in get_args(part) for part in nested(field.annotation)):
            return f"{link}, or a list of them"
        return f"{'a list of ' if is_list else ''}{link}"
    words = found[0].words if found else "a mapping"
    kinds = [
        get_origin(part) for part in (field.annotation, *get_args(field.annotation))
    ]  # of `list[X] | None`
    if list in kinds and "list" not in words:
        return f"a list, each {words}"
    is_plain_mapping = get_origin(field.annotation) is dict and "mapping" not in words
    return f"a mapping, each value {words}" if is_plain_mapping else words


def default(field: FieldInfo) -> str:
    """As YAML would have it; empty where the key must be there."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel) or value in ({}, [], None):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value) or '""'
    return f"`{text}`"


def table(model: Model) -> str:
    """Describe the keys of one section."""
    meant = comments(model)
    for base in model.__mro__[1:]:
        if base.__module__ == model.__module__:
            meant = {**comments(base), **meant}
    lines = ["| key | may be | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        must = ", required" if field.is_required() else ""
        cells = [f"`{name}`{must}", rule(field), default(field), meant.get(name, "")]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    if model.model_config.get("extra") == "allow":
        lines.append("\nOther keys go to the class, and are checked by its signature.")
    return "\n".join(lines)


def section(model: Model, level: int = 2) -> str:
    """Describe a section with its docstring and its keys."""
    about = inspect.cleandoc(model.__doc__ or "").replace("\n", " ").replace("  ", "\n\n")
    return f"{'#' * level} {model.__name__}\n\n{about}\n\n{table(model)}\n"


def reached(model: Model) -> list[Model]:
    """Return the sections below one, each once, in the order of their keys."""
    found: dict[Model, None] = {}
    for field in model.model_fields.values():
        for below in models_of(field):
            found |= dict.fromkeys([below, *reached(below)])
    return [*found]


def config_page() -> str:
    """Write the reference of configs."""
    parts = [GENERATED, CONFIG, f"## Sections\n\n{table(schema.Sections)}\n"]
    return "\n".join([*parts, *map(section, reached(schema.Sections))])


def space_page() -> str:
    """Write the reference of search spaces."""
    below = [m for m in reached(study.StudyOptions) if m is not scheduler.SchedulerOptions]
    kinds = [m for name, m in scheduler.OPTIONS.items() if name != "none"]
    parts = [GENERATED, SPACE, table(space_file._Entry), "\n## study\n", table(study.StudyOptions), ""]
    parts += map(section, below)
    parts.append("## The schedulers' options\n")
    return "\n".join([*parts, *(section(kind, 3) for kind in kinds)])


def main() -> None:
    """Write the pages, or compare them with what is there."""
    stale = []
    pages = {
        "config.md": config_page(),
        "search-space.md": space_page(),
        "cli.md": f"{GENERATED}\n{cli_page()}",
    }
    for name, text in pages.items():
        file = FOLDER / name
        if "--check" not in sys.argv[1:]:
            file.write_text(text)
        elif not file.is_file() or file.read_text() != text:
            stale.append(f"docs/reference/{name}")
    if stale:
        sys.exit(f"{', '.join(stale)}: not what the source says. Run python tools/reference.py.")


if __name__ == "__main__":
    main()
