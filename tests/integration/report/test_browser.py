"""The pages in a real browser: Debian's Chromium, without a head."""

import os
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.projects.docclassifier.visuals.gallery import illustrate
from otter_ray.report.compare import write_comparison
from otter_ray.report.html_report import write_report
from tests.support.made_study import BACKBONE, BACKBONES, drawn, export, make

# Debian's own wrapper, and what other systems call it.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FILL = "getComputedStyle(document.querySelector('.figure text')).fill"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None and os.environ.get("CI"):
        pytest.fail("no Chromium is installed: apt-get install chromium, as .ci/run does as root")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Files with every section and a gallery of real pictures, and with none of them."""
    folder = tmp_path_factory.mktemp("pages")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) // 4
    embeddings = torch.randn(6, 16, generator=generator)[labels] + torch.randn(24, 16, generator=generator)
    items = [(torch.rand(3, 64, 64, generator=generator), label) for label in labels.tolist()]
    trials = drawn(30)
    for number, trial in enumerate(trials):
        trial["figures"] = {"macs": 1e6 + 1e7 * trial["curve"][0]}
        trial["params"][BACKBONE] = BACKBONES[number % 2]
    trials[3]["error"] = "CUDA out of memory. " * 20
    config = folder / "lcnet050_cosface_f256_r128_squeeze_lbn_imagenet"
    whole = make(config / "whole", trials, objectives={"macs": "min"})
    pictures = illustrate(embeddings, labels, items, pair_roc(embeddings, labels))
    whole = export(whole, whole.winner.number, pictures)
    empty = make(config / "empty", [])
    write_report(whole, folder / "whole.html")
    write_report(empty, folder / "empty.html")
    other = make(config / "other", drawn(12, seed=1))
    write_comparison([whole, other, empty], folder / "compare.html")
    return folder


class Seen:
    """A page that is open, and what it said and asked for meanwhile."""

    def __init__(self, browser, file: Path, width: int, scheme: str) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.context.close()

    def colour(self, selector: str, which: str) -> float:
        """Brightness of a colour, 0 (black) to 255."""
        script = f"getComputedStyle(document.querySelector('{selector}')).{which}"
        text = self.page.evaluate(script)
        return float(np.mean([float(part) for part in text.partition("(")[2].rstrip(")").split(",")[:3]]))


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("whole", 1280, "light"),
        ("whole", 1280, "dark"),
        ("whole", 390, "light"),
        ("whole", 390, "dark"),
        ("empty", 390, "dark"),
        ("compare", 390, "light"),
    ],
)
def test_it_says_nothing_asks_for_nothing_and_fits(browser, pages, name, width, scheme):
    file = pages / f"{name}.html"
    with Seen(browser, file, width, scheme) as seen:
        assert seen.said == []
        assert [url for url in seen.asked if not url.startswith("data:")] == [file.as_uri()]
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.page.locator("section").count() == {"whole": 14, "empty": 12, "compare": 3}[name]
        figures = seen.page.locator(".figure")
        assert figures.count() == {"whole": 12, "empty": 0, "compare": 2}[name]
        assert seen.page.locator(".figure svg.main-svg:first-child").count() == figures.count()
        # Text on a card, in a figure, too, is told from the card.
        card, text = seen.colour("section", "backgroundColor"), seen.colour("body", "color")
        assert (card > 200) == (text < 100) == (scheme == "light")
        if figures.count():
            assert abs(seen.colour(".figure text", "fill") - card) > 100


def test_figures_follow_a_change_of_colours(browser, pages):
    with Seen(browser, pages / "whole.html", 1280, "light") as seen:
        before = seen.colour(".figure text", "fill")
        was = seen.page.evaluate(FILL)
        seen.page.emulate_media(color_scheme="dark")
        seen.page.wait_for_function(f"was => {FILL} !== was", arg=was, timeout=20_000)
        assert seen.colour(".figure text", "fill") > before + 100
        assert seen.said == []


def test_wide_things_scroll_in_their_own_box(browser, pages):
    with Seen(browser, pages / "whole.html", 390, "light") as seen:
        boxes = seen.page.locator(".wide").evaluate_all(
            "all => all.map(one => one.scrollWidth > one.clientWidth)"
        )
        assert any(boxes)
        # Each says on which side it goes on.
        for box in seen.page.locator(".wide, .row").all():
            more = "box => [box.scrollWidth > box.clientWidth + 1, box.classList.contains('more-right')]"
            scrolls, fades = box.evaluate(more)
            assert scrolls == fades
            if scrolls:
                box.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
                seen.page.wait_for_function(
                    "box => box.matches('.more-left:not(.more-right)')", arg=box.element_handle()
                )
        pictures = seen.page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert len(pictures) >= 40
        assert {*pictures} == {64}


@pytest.mark.parametrize("width", [1280, 390])
def test_slices_need_no_scrolling(browser, pages, width):
    with Seen(browser, pages / "whole.html", width, "light") as seen:
        boxes = seen.page.locator("#slices .wide")
        assert boxes.count() == 5
        assert not any(boxes.evaluate_all("all => all.map(one => one.scrollWidth > one.clientWidth)"))
        lines = {box["y"] for box in (box.bounding_box() for box in boxes.all())}
        assert len(lines) == {1280: 2, 390: 5}[width]


@pytest.mark.parametrize("width", [1280, 390])
def test_no_text_of_parallel_coordinates_covers_another(browser, pages, width):
    with Seen(browser, pages / "whole.html", width, "light") as seen:
        texts = seen.page.locator("#parallel-coordinates svg :is(text.annotation-text, .xtick text)")
        boxes = texts.evaluate_all("all => all.map(one => [one.textContent, one.getBoundingClientRect()])")
        assert BACKBONES[1] in [text for text, _ in boxes]
        for (one, a), (other, b) in combinations(boxes, 2):
            is_apart = a["right"] <= b["left"] or b["right"] <= a["left"]
            assert is_apart or a["bottom"] <= b["top"] or b["bottom"] <= a["top"], (one, other)


def test_a_legend_on_a_telephone_tells_the_studies_apart(browser, pages):
    with Seen(browser, pages / "compare.html", 390, "light") as seen:
        texts = seen.page.locator(".legendtext")
        ends = texts.evaluate_all(
            "all => all.map(one => [one.textContent.slice(-5), one.getBoundingClientRect()])"
        )
        assert [text for text, _ in ends] == ["whole", "other"] * 2
        assert all(box["right"] <= 390 for _, box in ends)
