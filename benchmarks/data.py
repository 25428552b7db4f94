"""What data costs a trial: its start, its memory, its images a second, the cache's building, a million files.

    python benchmarks/data.py [--quick] [--only PART ...] [--images FOLDER] [--files 1300000] [--json FILE]

start     seconds from the start of a trial, in a process that has run others, to its first batch
memory    the images' memory of 4 processes that have read them all, against that of one
items     images a second of `SynthDataset`, against opening, decoding and resizing a file for each item
building  images a second into the cache, on one core and on all
files     a folder of 1,300,000 small images: listing, caching, opening, and the memory of it

Without `--images` 500 documents are drawn and written as JPEG files of 400 px. The million are true files,
32 px wide, a few hundred bytes each: 6 GB of blocks, made and removed below the temporary directory. Each
measurement has a process and a cache of its own. `--json`: every repetition, the machine, the packages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

Figures = dict[str, Any]
SIZE = (128, 128)
PROCESSES = 4


def start(images: Path, quick: bool) -> Figures:
    """Seconds to the first batch of a trial, of each trial of one process: `first` is the first of all."""
    rows = {}
    for name in ("demo", "unique_pool"):
        for workers in (0, 2):
            # Twice: the first process fills the cache, as a study's preparation does.
            sets = {"trials": 3 if quick else 11, "config": name, "workers": workers, "images": str(images)}
            child("start_in", {**sets, "trials": 1})
            seconds = child("start_in", sets)
            rows[f"{name}, {workers} workers"] = {
                "first_s": seconds[0], "later_s": median(seconds[1:]), "raw": seconds
            }  # fmt: skip
    return rows


def start_in(config: str, workers: int, trials: int, images: str) -> list[float]:
    from otter_ray.config import load_config
    from otter_ray.train.callbacks import EpochSetter
    from otter_ray.train.run import run_training

    reached: list[float] = []
    EpochSetter.on_train_batch_start = lambda *_: reached.append(time.perf_counter())  # type: ignore[method-assign]
    values = {"trainer.max_epochs": 1, "dataloader.train_options.num_workers": workers}
    values["dataset.train_options.options.length_of_dataset"] = 128
    if config != "demo":
        values |= {f"dataset.{part}_options.options.root": images for part in ("train", "valid")}
    loaded, seconds = load_config(config).with_values(values), []
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            reached.clear()
            started = time.perf_counter()
            run_training(loaded, Path(folder), lambda _: None, cpus=workers + 1, standalone=False)
            seconds.append(reached[0] - started)
    return seconds


def memory(images: Path, quick: bool) -> Figures:
    """Bytes of the tables' pages, each counted once for all processes that map it (PSS)."""
    rows = {}
    for workers in (0, 2):
        cost = {}
        for count in (1, PROCESSES):
            with holders(count, images, workers) as pids:
                cost[count] = sum(mapped(pid) for root in pids for pid in (root, *children(root)))
        rows[f"{workers} workers"] = {
            "one_bytes": cost[1], f"{PROCESSES}_bytes": cost[PROCESSES], "ratio": cost[PROCESSES] / cost[1]
        }  # fmt: skip
    return rows


@contextmanager
def holders(count: int, images: Path, workers: int) -> Iterator[list[int]]:
    """Process ids of `count` trials that have read every image and still hold them."""
    sets = json.dumps({"images": str(images), "workers": workers})
    command = [sys.executable, __file__, "--child", "hold", sets]
    held = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-3) for _ in range(count)]
    try:
        for process in held:
            assert process.stdout is not None
            if process.stdout.readline() != b"read\n":
                raise SystemExit("a process ended before it had read its images")
        yield [process.pid for process in held]
    finally:
        for process in held:
            process.communicate()


def hold(images: str, workers: int) -> None:
    from otter_ray.docclassifier.datasets import CaptureDataset
    from otter_ray.docclassifier.synth import SynthDataset
    from otter_ray.train.builders import build_dataloader

    valid = CaptureDataset(SIZE, root=images)
    train = SynthDataset(SIZE, root=images, valid_dataset=valid)
    train = SynthDataset(SIZE, root=images, valid_dataset=valid, length_of_dataset=train.num_classes)
    options = {"num_workers": workers, "persistent_workers": True}
    loaders = [build_dataloader(data, options, 16, workers + 1) for data in (train, valid)]
    for _ in (batch for loader in loaders for batch in loader):
        pass
    print("read", flush=True)
    sys.stdin.read()


def mapped(pid: int) -> int:
    """Bytes of cached tables that the process holds, its share of those that others hold, too."""
    table, total = False, 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            table = line.endswith(".arrow")
        elif table and line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    return total


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def items(images: Path, quick: bool) -> Figures:
    """Images a second of one process that gets one item after the other."""
    rows = {}
    for augmentation in ("DefaultImageAug", "ImageNetAug", "none"):
        sets = {"images": str(images), "augmentation": augmentation, "count": 200 if quick else 1000}
        child("items_in", {**sets, "repeats": 1, "count": 1})
        raw = child("items_in", {**sets, "repeats": 2 if quick else 5})
        ours, seeds = (median(raw[kind]) for kind in ("ours", "seeds"))
        rows[augmentation] = {
            "ours_per_s": ours, "seeds_per_s": seeds, "ratio": ours / seeds, "raw": raw
        }  # fmt: skip
    return rows


def items_in(images: str, augmentation: str, count: int, repeats: int) -> dict[str, list[float]]:
    """Both in turns, over the same images in the same order with the same random numbers."""
    import cv2

    from otter_ray.docclassifier.augment import AUGMENTATIONS, augmented
    from otter_ray.docclassifier.items import picture
    from otter_ray.docclassifier.synth import SynthDataset

    name = "ImageNetAug" if augmentation == "none" else augmentation
    ratio = float(augmentation != "none")
    ours = SynthDataset(SIZE, root=images, aug_func=name, aug_ratio=ratio, length_of_dataset=count)
    transform, paths = AUGMENTATIONS[name](SIZE, ratio, 0), ours.class_names

    def seeds(index: int) -> Any:
        label = ours.label(index)
        image = cv2.resize(cv2.imread(f"{images}/{paths[label]}", cv2.IMREAD_COLOR_RGB), SIZE)
        return picture(augmented(transform, image, [0, 1, 0, index]), True), label

    rates: dict[str, list[float]] = {"ours": [], "seeds": []}
    for _ in range(repeats):
        for kind, get in (("ours", ours.__getitem__), ("seeds", seeds)):
            started = time.perf_counter()
            for index in range(count):
                get(index)
            rates[kind].append(count / (time.perf_counter() - started))
    return rates


def building(images: Path, quick: bool) -> Figures:
    """Images a second from files into a new cache."""
    count = len(list(images.iterdir()))
    raw: dict[str, list[float]] = {"one": [], "all": []}
    for _ in range(1 if quick else 5):
        for kind in raw:
            seconds = child("building_in", {"images": str(images), "one": kind == "one"}, fresh=True)
            raw[kind].append(count / seconds)
    one, every = (median(rates) for rates in raw.values())
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "one_per_s": one, "all_per_s": every, "ratio": every / one, "raw": raw}


def building_in(images: str, one: bool) -> float:
    from otter_ray.docclassifier.images import load_images

    if one:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    started = time.perf_counter()
    load_images(images, SIZE, "root")
    return time.perf_counter() - started


def files(count: int) -> Figures:
    """Seconds and peak bytes of a process that caches the folder, and of a later one, a slot, that opens it."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        write_small(Path(folder), count)
        made = time.perf_counter() - started
        sets = {"images": folder}
        steps = {
            step: child("files_in", sets, cache=Path(cache), show=step == "build")
            for step in ("build", "open")
        }
        table = sum(path.stat().st_size for path in Path(cache).glob("*.arrow"))
    return {"files": count, "made_s": made, "table_bytes": table, **steps}


def files_in(images: str) -> Figures:
    from otter_ray.docclassifier.datasets import CaptureDataset
    from otter_ray.docclassifier.synth import SynthDataset

    drawn = {"drawn": 96, "max_similarity": 0.55}
    valid = CaptureDataset((32, 32), held_out=14, **drawn)
    before, seconds, anonymous = resident(), [], [0]
    threading.Thread(target=watch, args=(anonymous,), daemon=True).start()
    for _ in range(4):
        started = time.perf_counter()
        train = SynthDataset(
            (32, 32), drawn=96, use_imagenet=True, imagenet_root=images, valid_dataset=valid
        )  # fmt: skip
        train[0]
        seconds.append(time.perf_counter() - started)
    return {
        "first_s": seconds[0], "later_s": median(seconds[1:]), "raw": seconds, "classes": train.num_classes,
        "imports_bytes": before["VmHWM"], "peak_bytes": resident()["VmHWM"], "peak_own_bytes": anonymous[0],
    }  # fmt: skip


def resident() -> dict[str, int]:
    """VmHWM: the most that this process ever held, mapped pages included; RssAnon: what it owns now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split()[:2] for line in lines if line.startswith(("VmHWM", "RssAnon")))
    return {key.rstrip(":"): int(value) * 1024 for key, value in pairs}


def watch(peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], resident()["RssAnon"])
        time.sleep(0.05)


def write_small(folder: Path, count: int) -> None:
    """Files of 1,000 folders."""
    import cv2

    from otter_ray.docclassifier.drawing import draw_document

    pictures = [cv2.resize(draw_document(index), (32, 32)) for index in range(64)]
    data = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    each = -(-count // 1000)
    for index in range(count):
        place = folder / f"n{index // each:08d}"
        if index % each == 0:
            place.mkdir()
        with open(f"{place}/n{index // each:08d}_{index}.JPEG", "wb") as file:
            file.write(data[index % len(data)])


def draw(folder: Path) -> None:
    import cv2

    from otter_ray.docclassifier.drawing import draw_document

    for index in range(500):
        picture = cv2.resize(draw_document(index), (400, 400), interpolation=cv2.INTER_AREA)
        cv2.imwrite(f"{folder}/{index:04d}.jpg", picture[..., ::-1])


def child(
    function: str, sets: Figures, cache: Path | None = None, fresh: bool = False, show: bool = False
) -> Any:
    """What the function gives in a process of its own; its progress bars are shown where asked for."""
    with tempfile.TemporaryDirectory() as empty:
        place = {"OTTER_RAY_CACHE": str(cache or empty)} if cache or fresh else {}
        done = subprocess.run(
            [sys.executable, __file__, "--child", function, json.dumps(sets)],
            env=os.environ | place, stdout=-1, stderr=None if show else -3, check=True,
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> Figures:
    from otter_ray.train.record import write_environment

    with tempfile.TemporaryDirectory() as folder:
        write_environment(Path(folder))
        return dict(json.loads((Path(folder) / "environment.json").read_text()))


def show(figures: Any, depth: int = 0) -> None:
    for key, value in figures.items():
        if isinstance(value, dict) and key != "raw":
            print("  " * depth + str(key))
            show(value, depth + 1)
        elif key != "raw":
            print(
                f"{'  ' * depth}{key:16} {value:,.3f}"
                if isinstance(value, float)
                else f"{'  ' * depth}{key:16} {value:,}"
            )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        warnings.simplefilter("ignore")
        print(json.dumps(globals()[sys.argv[2]](**json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parts: dict[str, Callable[..., Figures]] = {
        part.__name__: part for part in (start, memory, items, building, files)
    }
    parser.add_argument("--only", nargs="+", choices=parts, default=[*parts])
    parser.add_argument("--images", type=Path, help="a folder of images; without it some are drawn")
    parser.add_argument("--files", type=int, default=1_300_000)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, 20,000 files")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    found: Figures = {}
    with tempfile.TemporaryDirectory() as drawn, tempfile.TemporaryDirectory() as cache:
        os.environ["OTTER_RAY_CACHE"] = cache
        images = arguments.images
        if images is None:
            images = Path(drawn)
            draw(images)
        for part in arguments.only:
            if part == "files":
                found[part] = files(20_000 if arguments.quick else arguments.files)
            else:
                found[part] = parts[part](images.absolute(), arguments.quick)
            show({part: found[part]})
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
