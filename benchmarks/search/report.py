"""What the replayed studies say: tables of each cell, ours against the best peer, and the plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
import numpy as np
from methods import OURS, VARIANTS
from numpy.typing import NDArray

PLOT = Path(__file__).parents[2] / "docs" / "images" / "search-replay.png"
MARKS = 16  # equal parts of the budget at which studies are compared
Cell = tuple[str, str, int]  # task, answers, slots
Studies = dict[str, dict[int, NDArray[np.float64]]]  # method -> seed -> values at the marks


def cells(rows: list[dict[str, Any]], what: str) -> dict[Cell, Studies]:
    """`what` (logged or average) of all studies, in the order of their cells."""
    found: dict[Cell, Studies] = {}
    for row in sorted(rows, key=lambda row: (row["answers"] != "process", row["task"], row["slots"])):
        studies = found.setdefault((row["task"], row["answers"], row["slots"]), {})
        studies.setdefault(row["method"], {})[row["seed"]] = np.array(row[what])
    return found


def at_marks(studies: Mapping[int, NDArray[np.float64]]) -> NDArray[np.float64]:
    """`[seeds, marks]`."""
    return np.array([*studies.values()])


def difference(
    ours: Mapping[int, NDArray[np.float64]], theirs: Mapping[int, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean difference over the seeds that both have at each mark, its standard error, and their number."""
    seeds = sorted(ours.keys() & theirs.keys())
    found = np.array([ours[seed] - theirs[seed] for seed in seeds])
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(len(seeds)), len(seeds)


def best_peer(studies: Studies, mark: int) -> str:
    """Of what is not ours, the method with the best mean after so many marks."""
    peers = [method for method in studies if method not in VARIANTS]
    return max(peers, key=lambda method: float(at_marks(studies[method])[:, mark].mean()))


def epochs_ratio(studies: Studies, method: str) -> float:
    """Share of the budget after which the median is what the best peer's is at the end; inf: never."""
    peers = [np.median(at_marks(found)[:, -1]) for name, found in studies.items() if name not in VARIANTS]
    reached = np.flatnonzero(np.median(at_marks(studies[method]), axis=0) >= max(peers))
    return float(reached[0] + 1) / MARKS if len(reached) else float("inf")


def report(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Every cell, the verdict on ours, and what a choice on two tables is worth on the third."""
    logged, average = cells(rows, "logged"), cells(rows, "average")
    yield from _overview(logged, average)
    yield from _left_out(logged)
    for cell, studies in logged.items():
        name, answers, slots = cell
        yield f"\n**{name}, {answers}, {slots} slot{'s' * (slots > 1)}**\n"
        yield "| method | seeds | 1/4 of the budget | 1/2 | all | its true mean | ours better by |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        for method, found in sorted(studies.items(), key=lambda item: -at_marks(item[1])[:, -1].mean()):
            values = at_marks(found)
            shown = [f"{np.median(values[:, mark]):.3f}" for mark in (MARKS // 4 - 1, MARKS // 2 - 1, -1)]
            gain = "" if method == OURS else _gain(difference(studies[OURS], found))
            truth = at_marks(average[cell][method])[:, -1].mean()
            yield f"| {method} | {len(values)} | {' | '.join(shown)} | {truth:.3f} | {gain} |"
        yield f"\n{_verdict(studies)}"


def _overview(logged: Mapping[Cell, Studies], average: Mapping[Cell, Studies]) -> Iterator[str]:
    """Yield one table for each surrogate: the final mean of every method in every cell, and the verdicts."""
    for answers in dict.fromkeys(cell[1] for cell in logged):
        found = {cell: studies for cell, studies in logged.items() if cell[1] == answers}
        yield f"\n**At the end of the budget, {answers}: mean (standard error)**\n"
        yield "| | " + " | ".join(f"{task}, {slots}" for task, _, slots in found) + " |"
        yield "| --- " * (1 + len(found)) + "|"
        for method in dict.fromkeys(method for studies in found.values() for method in studies):
            shown = [_mean(studies.get(method, {})) for studies in found.values()]
            yield f"| {method} | {' | '.join(shown)} |"
        best = {cell: best_peer(studies, -1) for cell, studies in found.items()}
        gains = [difference(studies[OURS], studies[best[cell]]) for cell, studies in found.items()]
        yield f"| best peer | {' | '.join(best.values())} |"
        yield f"| ours better by | {' | '.join(map(_gain, gains))} |"
        yield f"| of so many seeds | {' | '.join(str(count) for *_, count in gains)} |"
        yield f"| true mean of ours | {' | '.join(_mean(average[cell][OURS]) for cell in found)} |"
        truths = [difference(average[cell][OURS], average[cell][best[cell]]) for cell in found]
        yield f"| its true mean better by | {' | '.join(map(_gain, truths))} |"
        worse = [str(len(worse_at(studies))) for studies in found.values()]
        yield f"| marks of {MARKS} that are worse | {' | '.join(worse)} |"
        yield f"| epochs ratio | {' | '.join(f'{epochs_ratio(s, OURS):.2f}' for s in found.values())} |"


def _gain(found: tuple[NDArray[np.float64], NDArray[np.float64], int]) -> str:
    mean, error, _ = found
    return f"{mean[-1]:+.3f} ({error[-1]:.3f})"


def _mean(studies: Mapping[int, NDArray[np.float64]]) -> str:
    if len(studies) < 2:
        return ""
    last = at_marks(studies)[:, -1]
    return f"{last.mean():.3f} ({last.std(ddof=1) / np.sqrt(len(last)):.3f})"


def worse_at(studies: Studies) -> dict[int, str]:
    """Mark -> the best peer there, where ours is significantly (5 %, the same seeds) worse than it."""
    found = {}
    for mark in range(MARKS):
        best = best_peer(studies, mark)
        mean, error, _ = difference(studies[OURS], studies[best])
        if mean[mark] < -1.96 * error[mark]:
            found[mark] = f"{best}: {mean[mark]:.4f}"
    return found


def _verdict(studies: Studies) -> str:
    worse = [f"{(mark + 1) / MARKS:.2f} of the budget ({by})" for mark, by in worse_at(studies).items()]
    ratio = epochs_ratio(studies, OURS)
    return (
        f"Significantly worse than the best at: {'; '.join(worse) or 'no budget'}. "
        f"The best peer's final median is reached with {ratio:.2f} of its epochs."
    )


def _left_out(logged: Mapping[Cell, Studies]) -> Iterator[str]:
    """Yield, for each table, which variant of ours the other tables would choose, and its worth here.

    The worth of a variant is its final mean as a multiple of the best peer's, averaged over those cells of a
    table that all variants were replayed in.
    """
    for answers in dict.fromkeys(cell[1] for cell in logged):
        found: dict[str, list[dict[str, float]]] = {}
        for (task, kind, _), studies in logged.items():
            if kind == answers and VARIANTS.keys() <= studies.keys():
                found.setdefault(task, []).append(_worth(studies))
        worth = {task: {v: fmean(r[v] for r in ratios) for v in VARIANTS} for task, ratios in found.items()}
        if len(worth) < 2:
            continue
        yield f"\n**Chosen on the other tables, {answers}**\n"
        yield "| table | chosen | its worth here | the best here |"
        yield "| --- | --- | --- | --- |"
        for task, here in worth.items():
            others = [there for name, there in worth.items() if name != task]
            chosen = max(here, key=lambda variant: fmean(there[variant] for there in others))
            best_here = max(here, key=lambda variant: here[variant])
            yield f"| {task} | {chosen} | {here[chosen]:.3f} | {best_here}: {here[best_here]:.3f} |"


def _worth(studies: Studies) -> dict[str, float]:
    """Final mean of each variant as a multiple of the best peer's, over the seeds that all of them have."""
    best = best_peer(studies, -1)
    seeds = set.intersection(*(set(studies[method]) for method in (*VARIANTS, best)))
    final = {method: fmean(studies[method][seed][-1] for seed in seeds) for method in (*VARIANTS, best)}
    return {variant: final[variant] / final[best] for variant in VARIANTS}


def plot(rows: list[dict[str, Any]]) -> None:
    """Medians, and the quartiles of ours, of the Gaussian process's answers."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = cells([row for row in rows if row["answers"] == "process"], "logged")
    epochs = {(row["task"], row["answers"], row["slots"]): row["epochs"] for row in rows}
    tasks, slots = (list(dict.fromkeys(cell[part] for cell in found)) for part in (0, 2))
    methods = list(dict.fromkeys(method for studies in found.values() for method in studies))
    figure, axes = plt.subplots(len(tasks), len(slots), figsize=(13, 10), layout="constrained")
    for (cell, studies), axis in zip(found.items(), axes.flat, strict=True):
        for method, studied in studies.items():
            low, middle, high = np.quantile(at_marks(studied), [0.25, 0.5, 0.75], axis=0)
            style: dict[str, Any] = {"color": f"C{methods.index(method)}"}
            if method == OURS:
                style = {"color": "black", "lw": 2.5, "zorder": 9}
                axis.fill_between(epochs[cell], low, high, color="black", alpha=0.12, lw=0)
            axis.plot(epochs[cell], middle, label=method, **style)
        axis.set_title(f"{cell[0]}, {cell[2]} slot{'s' * (cell[2] > 1)}", fontsize=10)
        axis.grid(alpha=0.3)
        axis.set_xlabel("epochs of all trials")
    for row in axes:
        row[0].set_ylabel("valid_fpr@4 of the winner")
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(PLOT, dpi=90)
