"""A page and its sections, written as one file that needs no network, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from otter_ray.files import atomic_write

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        figure: Plotly's figure.
        height: Height in px.
        width: Least width in px: narrower windows scroll the chart.
    """

    figure: Figure
    height: int = 380
    width: int = 0


@dataclass(frozen=True)
class PageSection:
    """A part of a page under a heading.

    Attributes:
        title: The heading.
        text: What the section says, or why it shows nothing.
        charts: Charts to show.
        chart_width: Least width in px of charts that stand side by side; 0 for one below the other.
        tables: Tables to show.
        gallery: Rows of pictures (`BaseMixin.illustrate`).
    """

    title: str
    text: str = ""
    charts: Sequence[Chart] = ()
    chart_width: int = 0
    tables: Sequence[Table] = ()
    gallery: Sequence[Sequence[Mapping[str, str]]] = ()

    @property
    def anchor(self) -> str:
        """The heading as an id."""
        return "-".join(self.title.lower().split())


@dataclass(frozen=True)
class Page:
    """A page: what it is about, its sentences, and its sections.

    Attributes:
        bars: Values with their intervals, drawn side by side.
    """

    title: str
    subtitle: str
    lines: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    sections: Sequence[PageSection] = ()
    footer: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bar:
    """A value on a common scale.

    Attributes:
        name: What has the value.
        text: The value with its interval, as text.
        kind: `base`, `winner` or `test`.
        at: Where the value is, in percent of the scale.
        low: Where its interval begins.
        high: Where its interval ends.
    """

    name: str
    text: str
    kind: str
    at: float
    low: float
    high: float


def write_page(page: Page, path: Path) -> None:
    """Write the page to a file. Raises OSError."""
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
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


OWN = {"style": "style.css", "script": "figures.js"}


def _json(figure: Figure) -> Markup:
    """Write a figure as JSON, without the heading and the colours that the page gives it."""
    from plotly.io.json import to_json_plotly

    plain: dict[str, Any] = figure.to_plotly_json()
    for key in ("template", "title", "width", "height", "plot_bgcolor"):
        plain["layout"].pop(key, None)
    # It writes `<` as `\u003c`: nothing in it ends the script.
    return Markup(to_json_plotly(plain))


def _headers(table: Table) -> list[tuple[str, str]]:
    """Return (text, alignment) of each column."""
    return [(_plain(column.header), str(column.justify)) for column in table.columns]


def _rows(table: Table) -> list[tuple[str, list[str]]]:
    """Return (style, cells) of each row; the style is rich's, such as `bold green`."""
    cells = zip(*(column.cells for column in table.columns), strict=True)
    return [
        (str(row.style or ""), [*map(_plain, texts)]) for row, texts in zip(table.rows, cells, strict=True)
    ]


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
