"""`report.html`: a study on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from otter_ray.direction import Direction
from otter_ray.formatting import announcement, duration, sentence, with_interval
from otter_ray.redaction import redacted
from otter_ray.report.html_page import Bar, Page, write_page
from otter_ray.report.sections import sections_of
from otter_ray.report.study_data import StudyData
from otter_ray.report.tables import outcome_lines
from otter_ray.study.schema import REJECTED
from otter_ray.study.trials import base_of

REPORT = "report.html"


def write_report(data: StudyData, path: Path) -> None:
    """Draw a study, running or done, into a file. Raises OSError."""
    page = Page(
        title=data.name,
        subtitle=_subtitle(data),
        lines=[*_lines(data)],
        bars=bars(data),
        sections=[*sections_of(data)],
        footer=_footer(data),
    )
    write_page(page, path)


def _lines(data: StudyData) -> Iterator[str]:
    counts, *outcome = outcome_lines(
        data.rows, data.metric, data.direction, data.exported, has_finals=bool(data.finalists)
    )
    if data.winner is None:
        outcome = ["No trial has a value yet."]
    yield from (f"{sentence(line)}." for line in outcome)
    if data.model is None:
        yield "No model has been exported yet."
    else:
        onnx, facts = data.model
        if test := facts["gate"].get("test"):
            yield f"{sentence(announcement(test, data.metric))}."
        yield f"Model: {onnx}"
    yield from (f"{sentence(reason)}." for reason in data.study.user_attrs.get(REJECTED, []))
    yield f"Trials: {counts}."
    yield from (f"Left out: {error}" for error in data.unreadable())


def bars(data: StudyData) -> list[Bar]:
    """Return base and winner with intervals, from the exported model's JSON, else as they were logged."""
    base, found = base_of(data.rows), []
    if (facts := data.exported) and facts["metric"] == data.metric:
        measured, gate = facts["base"], facts["gate"]
        if measured and measured["trial"] != facts["trial"]:
            found.append(("base config", "base", measured["value"], measured["interval"]))
        elif base and base.number != facts["trial"]:
            found.append(("base config", "base", base.value, None))
        found.append((f"trial {facts['trial']}", "winner", gate["metrics"][data.metric], gate["interval"]))
        if (test := gate.get("test")) and measured and (of_base := measured.get("test")):
            found.append(("base config, test", "base", of_base["value"], of_base["interval"]))
        if test:
            found.append(
                (f"trial {facts['trial']}, test", "test", test["metrics"][data.metric], test["interval"])
            )
    else:
        if base:
            found.append(("base config", "base", base.value, None))
        if data.winner and data.winner is not base:
            found.append((f"trial {data.winner.number}", "winner", data.winner.value, None))
    ends = [end for *_, value, interval in found for end in interval or (value, value)]
    low, high = min([0.0, *ends]), max(ends, default=1.0)
    high = 1.0 if low >= 0 and high <= 1 else high
    return [_bar(*each, low, high) for each in found]


def _bar(
    name: str, kind: str, value: float, interval: Sequence[float] | None, low: float, high: float
) -> Bar:
    percents = [100 * (end - low) / ((high - low) or 1) for end in (value, *(interval or (value, value)))]
    return Bar(name, with_interval(value, interval, name=""), kind, *(round(end, 2) for end in percents))


def _subtitle(data: StudyData) -> str:
    rows, better = data.rows, "higher" if data.direction is Direction.MAX else "lower"
    epochs = sum(row.epochs for row in rows)
    hosts = Counter(row.host for row in rows if row.host)
    spent = sum(row.seconds or 0 for row in rows)
    starts = [trial.datetime_start for trial in data.trials if trial.datetime_start]
    begun = f" · begun {min(starts):%Y-%m-%d %H:%M}" if starts else ""
    machines = f" on {len(hosts)} machines" if len(hosts) > 1 else ""
    return (
        f"{data.metric}, {better} is better · {len(rows)} trials · {epochs} epochs{machines} · "
        f"{duration(spent)} of training{begun}"
    )


def _revisions(facts: Mapping[str, Any]) -> dict[str, str | None]:
    """Map the user's project and otter_ray to their git revisions; earlier versions wrote only the latter."""
    project = facts.get("project", {})
    return {project.get("name", ""): project.get("git_revision"), "otter_ray": facts.get("git_revision")}


def _footer(data: StudyData) -> Mapping[str, str]:
    facts: dict[str, Any] = data.environment
    system, gpus = facts.get("system", {}), Counter(gpu["name"] for gpu in facts.get("gpus", []))
    machine = [system.get("host"), system.get("processor"), *(f"{n} x {name}" for name, n in gpus.items())]
    known = {
        "Folder": str(data.folder.absolute()),
        "Command": redacted(" ".join(facts.get("command", []))),
        "Code": ", ".join(f"{name} {revision}" for name, revision in _revisions(facts).items() if revision),
        "Machine": ", ".join(filter(None, machine)),
    }
    return {name: text for name, text in known.items() if text}
