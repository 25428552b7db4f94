"""Sections of a page, and the one self-contained file that they become: no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from otter_ray.files import written_whole

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        height: px.
        width: px, that it needs at least: narrower windows scroll it.
    """

    figure: Figure
    height: int = 380
    width: int = 0


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        text: what it says, or why it shows nothing.
        charts, tables: what it shows.
        gallery: rows of pictures (`BaseMixin.illustrate`).
    """

    title: str
    text: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    gallery: Sequence[Sequence[Mapping[str, str]]] = ()

    @property
    def anchor(self) -> str:
        """Its heading as an id."""
        return "-".join(self.title.lower().split())


@dataclass(frozen=True)
class Page:
    """A page: what it is about, its sentences, and its sections.

    Attributes:
        bars: values with their intervals, to be drawn beside each other.
    """

    title: str
    subtitle: str
    lines: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    sections: Sequence[Section] = ()
    footer: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bar:
    """A value on a common scale.

    Attributes:
        kind: `base`, `winner` or `test`.
        at, low, high: of the value and its interval, in percent of the scale.
    """

    name: str
    text: str
    kind: str
    at: float
    low: float
    high: float


def write_page(page: Page, path: Path) -> None:
    """The page as a file. Raises OSError."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("otter_ray.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(json=_json, rows=_rows, headers=_headers)
    assets = Path(__file__).parent / "assets"
    own = {name: Markup((assets / file).read_text()) for name, file in OWN.items()}
    is_drawn = any(section.charts for section in page.sections)
    plotly = Markup(get_plotlyjs() if is_drawn else "")
    text = environment.get_template("page.html").render(page=page, plotly=plotly, **own)
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


OWN = {"style": "style.css", "script": "figures.js"}


def _json(figure: Figure) -> Markup:
    """A figure without what the page gives it: its heading and its colours."""
    from plotly.io.json import to_json_plotly

    plain: dict[str, Any] = figure.to_plotly_json()
    for key in ("template", "title", "width", "height", "plot_bgcolor"):
        plain["layout"].pop(key, None)
    # It writes `<` as `\u003c`: nothing in it ends the script.
    return Markup(to_json_plotly(plain))


def _headers(table: Table) -> list[tuple[str, str]]:
    """(Text, alignment) of each column."""
    return [(_plain(column.header), str(column.justify)) for column in table.columns]


def _rows(table: Table) -> list[tuple[str, list[str]]]:
    """(Style, cells) of each row; the style is rich's, such as `bold green`."""
    cells = zip(*(column.cells for column in table.columns), strict=True)
    return [
        (str(row.style or ""), [*map(_plain, texts)]) for row, texts in zip(table.rows, cells, strict=True)
    ]


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
