"""Writes `docs/explanation/benchmarks.md` and its plots from `benchmarks/results/`.

python benchmarks/page.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs/explanation/benchmarks.md"
HEAD = """<!-- Written by benchmarks/page.py: run make bench. -->
# Benchmarks

`make bench` measures all of this and writes this page; `python benchmarks/run.py --only NAME` one section of it. Peers
are installed in an environment of their own and run in turn with ours. Timings on a small machine are noisy: the ratio of
figures from one run is what counts. Medians, with the lowest and the highest in brackets. More figures:
[What searches find](results.md); what samplers and schedulers are worth: [What the defaults rest on](defaults.md).
"""
PEERS = {
    "ours": "ours: `python -m otter_ray.tune`",
    "optuna": "Optuna, two processes on one journal, the Lightning loop in each",
    "syne_tune": "Syne Tune, local backend, ASHA, polling every 5 s as it does by default",
    "syne_tune_1s": "the same, polling every second",
    "one_by_one": "one trial after another, a process each, without early stopping (the seed's way)",
    "ray_recipe": "Ray's recipe: a Tuner over a function that builds a TorchTrainer",
}


def table(head: str, rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; `head` is its columns, with `|` between."""
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def spread(value: Any, digits: int = 2) -> str:
    """`median (lowest to highest)` of [lowest, median, highest], or of a median with its spread."""
    if isinstance(value, dict):
        value = [value["spread"][0], value["median"], value["spread"][1]]
    low, middle, high = (f"{number:,.{digits}f}" for number in value)
    return middle if low == high else f"{middle} ({low} to {high})"


def study(facts: dict[str, Any]) -> str:
    """Wall times against the bound and the peers."""
    found = facts["figures"]["rows"]
    epoch = median(row["lone_epoch_s"] for row in found)
    text = f"""The same list of trials for all: LCNet-050 at 64 px, {epoch:.1f} s an epoch, ASHA over
4 epochs, 2 slots. Everybody stops other trials, so each is held against the bound of its own epochs: one import for each
slot, side by side, and the epochs that were run, each at the time that it takes alone on one CPU, divided by the slots.
The search ends with its last trial; `of ours` compares searches, `per bound` what each makes of its own bound. What
ours takes beyond its bound lies before the first epoch, where the driver's import and checks and Ray's own processes want
the same cores as the slots' imports, and in the trials' own starts and ends: [Architecture](../contributing/architecture.md) has the parts.

"""
    summary = facts["figures"]["summary"]
    for trials in sorted({row["trials"] for row in summary}):
        rows = [row for row in summary if row["trials"] == trials]
        text += f"{trials} trials:\n\n" + table(
            "contestant | search, s | beyond its bound, s | of its bound | of ours | per bound, of ours | epochs | repetitions",
            (
                (
                    PEERS[row["contestant"]],
                    spread(row["search_s"], 1),
                    spread(beyond(found, trials, row["contestant"]), 1),
                    spread(row["search_of_bound"]),
                    spread(row["of_ours"]) if "of_ours" in row else "",
                    spread(row["of_ours_by_bound"]) if "of_ours_by_bound" in row else "",
                    spread(row["epochs"], 0),
                    row["repetitions"],
                )
                for row in rows
            ),
        )
        plot_study(trials, rows)
        text += f"\n![Wall time of {trials} trials](benchmarks-study-{trials}.png)\n\n"
    return text


def beyond(rows: list[dict[str, Any]], trials: int, contestant: str) -> list[float]:
    """[lowest, median, highest] seconds that a contestant's searches took longer than their bounds."""
    mine = [row for row in rows if (row["trials"], row["contestant"]) == (trials, contestant)]
    more = [row["search_s"] - row["bound_s"] for row in mine]
    return [min(more), median(more), max(more)]


def plot_study(trials: int, rows: list[dict[str, Any]]) -> None:
    """Bars of the searches' medians, with their spread, and each one's bound."""
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(rows) + 1), layout="constrained")
    names = [row["contestant"].replace("_", " ") for row in rows]
    middles = [row["search_s"][1] for row in rows]
    errors = [
        [row["search_s"][1] - row["search_s"][0] for row in rows],
        [row["search_s"][2] - row["search_s"][1] for row in rows],
    ]
    axes.barh(
        names, middles, xerr=errors, color=["#d9822b" if name == "ours" else "#8aa4c0" for name in names]
    )
    bounds = [row["search_s"][1] / row["search_of_bound"][1] for row in rows]
    axes.plot(bounds, names, "k|", markersize=16, label="bound of its own epochs")
    axes.invert_yaxis()
    axes.set(xlabel=f"seconds for {trials} trials, two at once")
    axes.legend(frameon=False)
    save(figure, f"study-{trials}")


def start(facts: dict[str, Any]) -> str:
    """What a user waits for."""
    found = facts["figures"]
    bound = found["Ray's start"]["median"] + found["one import"]["median"]
    ratio = found["the first trial trains"]["median"] / bound
    rows = [(name, spread(seconds)) for name, seconds in found.items()]
    return (
        "What a user waits for.\n\n"
        + table("wait | s", rows)
        + f"\nThe first trial trains after {ratio:.2f} times Ray's start and one import.\n"
    )


def step(facts: dict[str, Any]) -> str:
    """A whole trial against a bare loop."""
    found = facts["figures"]
    jobs = found["jobs"]
    rows = []
    for way in next(iter(jobs.values()))["images_per_s"]:
        cells = ((spread(job["images_per_s"][way], 0), f"{job['of_bare'][way]:.2f}") for job in jobs.values())
        rows.append((way, *chain.from_iterable(cells)))
    return (
        f"Images a second of whole trials (data, augmentation, validation, checkpoints) of the config "
        f"`{found['config']}`, and of bare loops over the same model with no data to load, on the "
        f"{found['device']}; and what of the first bare loop's that is.\n\n"
        + table(" | ".join(["way", *(f"{job} | of bare" for job in jobs)]), rows)
    )


def data(facts: dict[str, Any]) -> str:
    """The five figures of the data."""
    text = "Of 500 JPEG files unless a row says otherwise.\n\n"
    facts = facts["figures"]
    if "start" in facts:
        rows = [
            (name, f"{row['first_batch_s']:.2f}", f"{row['data_s']:.3f}")
            for name, row in facts["start"].items()
        ]
        text += "A trial in a process that has run others:\n\n"
        text += table("config | s to the first batch | of them its data sets", rows)
    if "memory" in facts:
        rows = [(name, f"{row['ratio']:.3f}") for name, row in facts["memory"].items()]
        text += "\nMemory of the images in four trials against one:\n\n" + table("loaders | ratio", rows)
    if "items" in facts:
        rows = [
            (name, f"{row['ours_per_s']:,.0f}", f"{row['seeds_per_s']:,.0f}", f"{row['ratio']:.2f}")
            for name, row in facts["items"].items()
        ]
        text += "\nImages a second of one process, against opening and decoding a file for each:\n\n"
        text += table("augmentation | ours | file by file | ratio", rows)
    if "building" in facts:
        row = facts["building"]
        text += (
            f"\nBuilding the cache: {row['one_per_s']:,.0f} images/s on one core, {row['all_per_s']:,.0f} on "
            f"{row['cores']} ({row['ratio']:.2f} times).\n"
        )
    if "files" in facts:
        row = facts["files"]
        built, opened = row["build"], row["open"]
        text += (
            f"\n{row['files']:,} files of 32 px: listed and cached in {built['first_s']:,.0f} s with at most "
            f"{built['peak_own_bytes'] / 1e9:.2f} GB of its own memory ({built['peak_bytes'] / 1e9:.2f} GB with "
            f"mapped pages); a new process opens them in {opened['first_s']:.1f} s, its next trials in "
            f"{opened['later_s']:.2f} s.\n"
        )
    return text


def metric(facts: dict[str, Any]) -> str:
    """`valid_fpr@4` against itertools."""
    rows = facts["figures"]
    ours = {row["embeddings"]: row for row in rows if row["way"] == "ours"}
    lines = []
    for row in rows:
        times = "" if row["way"] == "ours" else f"{row['seconds'] / ours[row['embeddings']]['seconds']:,.0f}"
        seconds = spread([row["spread"][0], row["seconds"], row["spread"][1]], 3)
        lines.append((f"{row['embeddings']:,}", row["way"], seconds, f"{row['peak_mb']:,.0f}", times))
    return (
        "`valid_fpr@4` of embeddings of 256 numbers, one thread; peak memory beyond the "
        "embeddings. Both give the same value.\n\n" + table("embeddings | way | s | MB | times ours", lines)
    )


def driver(facts: dict[str, Any]) -> str:
    """What the driver costs a trial."""
    rows = facts["figures"]["rows"]
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.loglog([row["trials"] for row in rows], [row["ms_a_trial"] for row in rows], "o-", color="#d9822b")
    axes.set(xlabel="trials so far", ylabel="ms of the driver a trial")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter("")
    axes.tick_params("x", rotation=30)
    axes.grid(alpha=0.3)
    save(figure, "driver")
    lines = [(f"{row['trials']:,}", f"{row['ms_a_trial']:.1f}", f"{row['mean_ms']:.1f}") for row in rows]
    return (
        "Searcher (TPE), scheduler (ASHA), journal and progress of a study, with training "
        "replaced by nothing; three reports a trial at most.\n\n"
        + table("trials so far | ms a trial, median | mean", lines)
        + "\n![Growth of the driver's cost](benchmarks-driver.png)\n"
    )


def actors(facts: dict[str, Any]) -> str:
    """Trials a second through Ray."""
    found = facts["figures"]
    rows = [(way, spread(rate, 1)) for way, rate in found["trials_per_s"].items()]
    text = f"{found['trials']:,} trials of three reports and nothing else, on two warm actors.\n\n"
    return text + table("way | trials/s", rows)


def export(facts: dict[str, Any]) -> str:
    """Where the export's time goes."""
    rows = [(stage, spread(seconds)) for stage, seconds in facts["figures"]["seconds"].items()]
    return "From a checkpoint to the file that passed the gate.\n\n" + table("stage | s", rows)


def partial_fc(facts: dict[str, Any]) -> str:
    """PartialFC against the dense softmax."""
    rows = facts["figures"]
    first = rows[0]
    lines = (
        (
            row["way"],
            f"{row['seconds']:.2f}",
            f"{row['gigabytes']:.2f}",
            f"{row['seconds'] / first['seconds']:.2f}",
            f"{row['gigabytes'] / first['gigabytes']:.2f}",
        )
        for row in rows
    )
    return (
        "1,281,167 classes of 256 numbers, batch 64, float32, CPU; one step, and the "
        "peak memory beyond the centres and their gradient. `dense` is the textbook way in plain torch.\n\n"
        + table("way | s | GB | time | memory", lines)
    )


def nodes(facts: dict[str, Any]) -> str:
    """The same study on more nodes."""
    lines = (
        (
            row["nodes"],
            row["slots"],
            f"{row['wall_s']:.1f}",
            f"{row['speedup']:.2f}",
            f"{row['of_ideal']:.2f}",
        )
        for row in facts["figures"]
    )
    return (
        "24 trials on Ray nodes of two slots each, all on this machine. They sleep for 4 epochs "
        "of 10 s, because two cores cannot train on eight slots.\n\n"
        + table("nodes | slots | wall time, s | faster | of ideal", lines)
    )


FORKED = {
    "replaced_s": "from the kill of a slot to the end of its trial's next epoch, s",
    "group_s": "a trial of two workers that trains one tiny epoch, s",
    "private_mb": "memory that a slot shares with no other process, MB",
}


def forks(facts: dict[str, Any]) -> str:
    """What forked workers save."""
    rows = []
    for name, what in FORKED.items():
        forked, alone = (facts["figures"][name][way] for way in ("forked", "alone"))
        rows.append((what, spread(forked), spread(alone), f"{forked['median'] / alone['median']:.2f}"))
    text = "Workers that are forked from a process which has imported torch, and (`OTTER_RAY_FORK_SERVER=0`) those "
    return f"{text}that import it.\n\n" + table("what | forked | imports | ratio", rows)


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "study": ("A study's wall time", study),
    "start": ("Start", start),
    "step": ("The training step", step),
    "step_gpu": ("The training step on a GPU", step),
    "data": ("Data", data),
    "metric": ("The metric", metric),
    "driver": ("The driver at scale", driver),
    "actors": ("Trials through Ray's actors", actors),
    "forks": ("Forked workers", forks),
    "export": ("Export", export),
    "partial_fc": ("PartialFC", partial_fc),
    "nodes": ("More nodes", nodes),
}


def save(figure: Any, name: str) -> None:
    """As `docs/explanation/benchmarks-NAME.png`."""
    figure.savefig(PAGE.with_name(f"benchmarks-{name}.png"), dpi=110)
    plt.close(figure)


def where(facts: dict[str, Any]) -> str:
    """When and on what a section was measured."""
    machine, versions = facts["machine"], facts["versions"]
    told = (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB, {machine['system']}"
    )
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"<sub>{facts['date']}; {told}; {packages}; `{facts['command']}`</sub>\n"


def write() -> None:
    """The page, of the sections that have figures."""
    parts = [HEAD]
    for name, (title, section) in SECTIONS.items():
        file = RESULTS / f"{name}.json"
        if file.is_file():
            facts = json.loads(file.read_text())
            parts += [f"## {title}\n", section(facts).rstrip("\n") + "\n", where(facts)]
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    write()
