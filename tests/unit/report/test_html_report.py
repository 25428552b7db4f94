"""`report.html` and `compare.html` of studies in real Optuna journals."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
import typer
from rich.console import Console

from otter_ray.errors import StudyError
from otter_ray.report import charts, optuna_charts, sections
from otter_ray.report.__main__ import report
from otter_ray.report.compare import names_of, progress, write_comparison
from otter_ray.report.html_report import bars, write_report
from otter_ray.report.study_data import StudyData
from otter_ray.report.tables import parameter_labels
from otter_ray.space.compatibility import SEED
from otter_ray.study.schema import FINALIST, FINALISTS
from tests.support.made_study import EPOCHS, LR, M, drawn, export, make

HOSTILE = "</script><script>alert('ouch')</script><img src=x onerror=alert(1)>"
PICTURE = {"image": "data:image/png;base64,AAAA", "name": HOSTILE, "text": "0.9", "kind": "wrong"}
CURVE = {
    "title": "ROC", "x_title": HOSTILE, "y_title": "TPR", "log_x": True, "x": [1e-4, 1.0], "y": [0.9, 1.0],
    "mark": {"x": 1e-4, "y": 0.9, "text": "threshold 0.92"},
}  # fmt: skip
PICTURES = {
    "curves": [CURVE],
    "galleries": [{"title": "Hardest false pairs", "text": HOSTILE, "rows": [[PICTURE, PICTURE]]}],
}


@pytest.fixture
def whole(tmp_path):
    """A study with everything there is to show: its base, failures, two objectives, a model with pictures."""
    trials = drawn(24)
    for trial in trials:
        trial["figures"] = {"macs": 1e6 + 1e7 * trial["curve"][0]}
    trials[5] |= {"error": HOSTILE}
    trials[0] = {"params": {}, "curve": [0.1, 0.2, 0.3, 0.38], "figures": {"macs": 2e6}}
    data = make(tmp_path / "demo" / "whole", trials, objectives={"macs": "min"})
    return export(data, data.winner.number, PICTURES)


def sections_by_title(data):
    return {section.title: section for section in sections.sections_of(data)}


def test_every_section_shows_what_it_is_for(whole):
    found = sections_by_title(whole)
    drawn_ones = {title for title, section in found.items() if section.charts}
    assert drawn_ones == {
        "ROC", "Optimization history", "Learning curves", "Parameter importances", "Parallel coordinates",
        "Slices", "Pareto front", "Timeline",
    }  # fmt: skip
    assert found["Hardest false pairs"].gallery == [[PICTURE, PICTURE]]
    assert {title for title, section in found.items() if section.tables} == {
        "The search", "Trials", "Failures", "The gate",
    }  # fmt: skip
    assert not [section.text for section in found.values() if section.text.startswith("Left out")]


def test_the_file_stands_alone_and_runs_nothing_that_a_study_says(whole, tmp_path):
    write_report(whole, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in text
    assert text.count("plotly.js v") == 1
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#|data:)", ours)
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert text.count("&lt;/script&gt;") >= 3
    figures = re.findall(r"<script type=\"application/json\">(.*?)</script>", text, re.DOTALL)
    assert len(figures) == 11  # four of them slices
    titles = [
        json.loads(figure)["layout"].get("xaxis", {}).get("title", {}).get("text") for figure in figures
    ]
    assert titles[0] == HOSTILE


def test_the_headline_has_base_winner_and_test_with_their_intervals(whole, tmp_path):
    write_report(whole, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    told = f"winner: trial {whole.winner.number}, 0.8700 (0.74 to 0.96): a significant gain of 0.490."
    assert told in text
    assert "Test: valid_fpr@4 0.5500 (95 % interval 0.30 to 0.80) on 100 images of 5 classes" in text
    base, winner, test = bars(whole)
    assert (base.low, base.at, base.high) == (16, 38, 64)
    assert (winner.low, winner.at, winner.high) == (74, 87, 96)
    assert test.text == "0.5500 (0.30 to 0.80)"


def test_a_study_without_anything_says_so(tmp_path):
    data = make(tmp_path / "s", [])
    write_report(data, tmp_path / "report.html")
    assert "No trial has a value yet." in (tmp_path / "report.html").read_text()
    found = sections_by_title(data)
    assert not [title for title, section in found.items() if section.charts]
    assert found["Optimization history"].text == "Left out: no trial has a value yet."
    assert found["Pareto front"].text == "Left out: the study has one objective, valid_fpr@4."
    assert found["Curves and pictures"].text == "Left out: no model has been exported."


def test_pictures_of_another_model_are_left_out(whole):
    (whole.folder / "gallery.json").write_text(
        json.dumps({"onnx": "older.onnx", "winner": PICTURES, "base": []})
    )
    found = sections_by_title(StudyData(whole.study, whole.folder))
    assert "Hardest false pairs" not in found
    assert found["Curves and pictures"].text == "Left out: no gallery.json was kept with the exported model."


def test_where_a_model_was_refused_the_winner_is_whose_model_was_exported(whole):
    best, exported = whole.winner.number, (whole.winner.number + 1) % 5 + 10
    export(whole, exported, PICTURES)
    assert StudyData(whole.study, whole.folder).winner.number == best
    whole.study.set_user_attr("rejected", [f"trial {best}: its file differs"])
    assert StudyData(whole.study, whole.folder).winner.number == exported


def test_importances_want_ten_trials_and_find_what_matters(tmp_path):
    few = sections_by_title(make(tmp_path / "few", drawn(9)))["Parameter importances"]
    assert few.charts == ()
    assert few.text == "Left out: 9 trials have a value, and at least 10 are needed."
    many = sections_by_title(make(tmp_path / "many", drawn(60)))["Parameter importances"]
    [bar] = many.charts[0].figure.data
    # Plotly draws the last one on top.
    assert {*bar.y[-2:]} == {"m[CosFace]", "m[ArcFace]"}
    assert {*bar.y[:-2]} == {"lr", "loss.name"}


@pytest.mark.parametrize(("mode", "best"), [("max", 0.9), ("min", 0.05)])
def test_the_history_counts_a_stopped_trials_best_epoch(mode, best, tmp_path):
    whole_curves = [{"params": {LR: 5e-3}, "curve": [0.3, 0.4, 0.5, 0.45]} for _ in range(2)]
    stopped = {"params": {LR: 4e-3}, "curve": [best, 0.2]}
    data = make(tmp_path / mode, [*whole_curves, {"params": {LR: 3e-3}, "error": "x"}, stopped], mode)
    values, line, _ = optuna_charts.history(data.drawable, data.metric, None).figure.data
    assert [*values.x] == [0, 1, 3]
    assert line.y[-1] == best
    lines = optuna_charts.parallel_coordinates(data.drawable, data.metric, mode).figure.data[:-1]
    assert lines[-1].line.color == "rgb(234, 88, 12)"


def test_learning_curves_are_grouped_by_rung(tmp_path):
    trials = [
        {"params": {LR: 5e-3}, "curve": [0.1 * epoch for epoch in range(1, n + 1)]} for n in (1, 2, 2, 4)
    ]
    data = make(tmp_path / "s", trials)
    names = [trace.name for trace in charts.learning_curves(data.trials, data.rows, "m", 3).figure.data]
    assert names == [
        "stopped after epoch 1 (1)",
        "stopped after epoch 2 (2)",
        "ran to the end (1)",
        "winner: trial 3",
    ]


def test_of_many_trials_the_best_lines_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_charts, "MAX_LINES", 5)
    data = make(tmp_path / "s", drawn(12))
    section = sections_by_title(data)["Parallel coordinates"]
    assert section.text.startswith("The best 5 of 12 trials")
    *lines, _ = section.charts[0].figure.data
    best = sorted((row.value for row in data.rows), reverse=True)[:5]
    assert [line.customdata[0][1] for line in lines] == [f"{value:.3g}" for value in sorted(best)]


def test_the_timeline_fills_the_slots_of_each_host(tmp_path):
    trials = [{"curve": [0.1] * EPOCHS, "start": start} for start in (0, 20, 60, 65)]
    trials.append({"curve": [0.1] * EPOCHS, "start": 0, "host": "there"})
    data = make(tmp_path / "s", trials)
    [bar] = charts.timeline(data.trials, data.rows).figure.data
    slots = {text.split(",")[0]: slot for text, slot in zip(bar.text, bar.y, strict=True)}
    assert slots == {
        "trial 0": "here · 1", "trial 1": "here · 2", "trial 2": "here · 1", "trial 3": "here · 2",
        "trial 4": "there · 1",
    }  # fmt: skip


def test_finalists_are_shown_and_the_best_mean_is_the_winner(tmp_path):
    params = [{LR: 5e-3}, {LR: 4e-3}]
    data = make(
        tmp_path / "s",
        [
            {"params": each, "curve": [0.1, 0.2, 0.3, top]}
            for each, top in zip(params, (0.9, 0.8), strict=True)
        ],
    )
    data.study.set_user_attr(FINALISTS, {"top": 2, "seeds": 2})
    runs = [
        {
            "params": params[number],
            "curve": [0.1, 0.2, 0.3, top],
            "notes": {FINALIST: number, "values": {**params[number], SEED: seed}},
        }
        for number, seed, top in ((0, 1, 0.5), (0, 2, 0.6), (1, 1, 0.7), (1, 2, 0.8))
    ]
    make(tmp_path / "s" / "finals", runs)
    found = sections_by_title(data)["Finalists"]
    assert found.text.startswith("Trial 0 was best in the search (0.9000) but 0.5500 ± 0.0707 over 2 seeds;")
    assert [str(cell) for cell in found.tables[0].columns[0].cells] == ["1", "0"]
    assert data.winner.number == 1


def test_a_candidate_that_failed_the_gate_is_told_of(tmp_path):
    data = make(tmp_path / "s", drawn(3))
    data.study.set_user_attr("rejected", ["trial 2 (0.9) failed the gate: differs"])
    [table] = sections_by_title(data)["The gate"].tables
    assert [cell.plain for cell in table.columns[0].cells] == ["trial 2 (0.9) failed the gate: differs"]
    write_report(data, tmp_path / "report.html")
    assert "Trial 2 (0.9) failed the gate: differs." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["optimizer.options.lr", f"{M}[CosFace]", f"{M}[ArcFace]"], ["lr", "m[CosFace]", "m[ArcFace]"]),
        (["model.loss.name", "optimizer.name"], ["loss.name", "optimizer.name"]),
        (["a.options.m", "b.options.m", "x.m[0.5]"], ["a.m", "b.m", "x.m[0.5]"]),
        (["embed_dim"], ["embed_dim"]),
        (["a.options.m", "a.m"], ["a.options.m", "a.m"]),
    ],
)
def test_names_are_as_short_as_they_can_be(names, short):
    assert [*parameter_labels(names).values()] == short


def test_studies_are_compared(whole, tmp_path):
    other = make(tmp_path / "demo" / "other", drawn(6, seed=1))
    config = other.folder / "config.yaml"
    config.write_text(config.read_text().replace("max_epochs: 4", "max_epochs: 5"))
    table = write_comparison([whole, other], tmp_path / "compare.html")
    cells = dict(
        zip(
            (c.header for c in table.columns),
            ([x.plain for x in c.cells] for c in table.columns),
            strict=True,
        )
    )
    assert cells["study"] == ["demo/whole", "demo/other"]
    assert cells["winner"][0] == "0.8700 (0.74 to 0.96)"
    assert cells["winner"][1] == f"{other.winner.value:.4f}, not exported"
    assert cells["epochs"] == [str(sum(row.epochs for row in data.rows)) for data in (whole, other)]
    assert cells["elapsed"][1] == "3 min 31 s"
    text = (tmp_path / "compare.html").read_text()
    assert re.search(r"trainer\.max_epochs</td>\s*<td[^>]*>4</td>\s*<td[^>]*>5</td>", text)
    assert [done for _, done, _ in progress(other)] == [4, 5, 9, 10, 14, 15]


def test_studies_keep_their_names_apart_on_a_small_terminal(tmp_path):
    """Their names differ at their ends; the file has them whole."""
    names = [f"20261125-01542{number}" for number in range(2)]
    studies = [make(tmp_path / "a_config_with_a_long_name" / name, drawn(4)) for name in names]
    table = write_comparison(studies, tmp_path / "compare.html")
    output = io.StringIO()
    Console(file=output, width=80).print(table)
    lines = output.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    first, second = (next(line for line in lines if f"1542{number}" in line) for number in range(2))
    assert "…" in first
    assert first.split()[0] != second.split()[0]
    assert all(
        f"a_config_with_a_long_name/{name}" in (tmp_path / "compare.html").read_text() for name in names
    )


def test_the_footer_names_the_revisions_of_the_users_code_and_of_ours(whole, tmp_path):
    facts = {"git_revision": "abc", "project": {"name": "mine", "git_revision": "def (uncommitted changes)"}}
    for written, shown in (
        (facts, "mine def (uncommitted changes), otter_ray abc"),
        ({"git_revision": "abc"}, "otter_ray abc"),
    ):
        (whole.folder / "environment.json").write_text(json.dumps(written))
        write_report(whole, tmp_path / "report.html")
        assert shown in (tmp_path / "report.html").read_text()


def test_studies_of_other_metrics_are_not_compared(whole, tmp_path):
    other = make(tmp_path / "other", drawn(2), mode="min")
    with pytest.raises(StudyError, match=r"about valid_fpr@4 \(max\), valid_fpr@4 \(min\): their values"):
        write_comparison([whole, other], tmp_path / "compare.html")


def test_studies_that_are_called_alike_are_told_apart(tmp_path):
    studies = [make(tmp_path / place / "demo" / "s", []) for place in ("a", "b")]
    assert names_of(studies) == [str(tmp_path / place / "demo" / "s") for place in ("a", "b")]


def test_the_command_writes_where_it_is_told(whole, tmp_path, capsys, monkeypatch):
    report([whole.folder])
    assert (whole.folder / "report.html").stat().st_size > 4e6
    assert capsys.readouterr().out.rstrip().endswith(f"report: {whole.folder}/report.html")
    monkeypatch.chdir(tmp_path)
    report([whole.folder, whole.folder])
    assert (tmp_path / "compare.html").is_file()
    with pytest.raises(typer.Exit):
        report([whole.folder], output=tmp_path / "nowhere" / "x.html")
    assert "x.html cannot be written: No such file or directory. Give another" in capsys.readouterr().err
    with pytest.raises(StudyError, match=r"holds no study\.journal"):
        StudyData.open(tmp_path)


def test_a_terminal_that_lacks_characters_costs_no_report(whole):
    """The command ended in a traceback when it printed the bars of a curve, before it drew the page."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    line = [sys.executable, "-m", "otter_ray.report", whole.folder]
    done = subprocess.run(line, capture_output=True, env=environment, check=True, text=True)
    assert "_.-=" in done.stdout  # the curve of the base config
    assert (whole.folder / "report.html").is_file()


def test_a_curve_needs_no_mark():
    plain = {"title": "Errors", "x_title": "pixels", "y_title": "share", "x": [0.0, 5.0], "y": [0.0, 1.0]}
    lines = charts.curves(plain, None).figure.data
    assert [(line.name, line.mode) for line in lines] == [("winner", "lines")]
