"""The page of benchmarks is what its figures say."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_written_from_the_figures(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import page

    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    page.write()
    assert page.PAGE.read_text() == (ROOT / "docs/explanation/benchmarks.md").read_text()
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {path.name for path in (ROOT / "docs/explanation").glob("benchmarks-*.png")}
