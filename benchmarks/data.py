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
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE
from typing import Any

from results import keep

Figures = dict[str, Any]
SIZE = (128, 128)
PROCESSES = 4


def start(images: Path, quick: bool) -> Figures:
    """Of the trials of a process after its first: seconds to the first batch, and those of its data sets."""
    rows = {}
    for name in ("demo", "unique_pool"):
        for workers in (0, 2):
            sets = {"trials": 3 if quick else 11, "config": name, "workers": workers, "images": str(images)}
            raw = child("start_in", sets)
            rows[f"{name}, {workers} workers"] = {key: median(raw[key][1:]) for key in raw} | {"raw": raw}
    return rows


def start_in(config: str, workers: int, trials: int, images: str) -> dict[str, list[float]]:
    """cpu_s: of this process, without its loader's workers: what `first_batch_s` is on a machine at rest."""
    from otter_ray.config import load_config
    from otter_ray.train.callbacks import EpochSetter
    from otter_ray.train.run_options import RunHooks, RunOptions
    from otter_ray.train.trainer import prepare_loaders, run_training

    reached: list[tuple[float, float]] = []
    EpochSetter.on_train_batch_start = lambda *_: reached.append(clocks())  # type: ignore[method-assign]
    values = {"trainer.max_epochs": 1, "dataloader.train_options.num_workers": workers}
    values["dataset.train_options.options.length_of_dataset"] = 128
    if config != "demo":
        values |= {f"dataset.{part}_options.options.root": images for part in ("train", "valid")}
    loaded = load_config(config).with_values(values)
    raw: dict[str, list[float]] = {"first_batch_s": [], "cpu_s": [], "data_s": []}
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            reached.clear()
            wall, cpu = clocks()
            run_training(loaded, Path(folder), lambda _: None, RunOptions(cpus=workers + 1), RunHooks())
        raw["first_batch_s"].append(reached[0][0] - wall)
        raw["cpu_s"].append(reached[0][1] - cpu)
        wall, _ = clocks()
        prepare_loaders(loaded, workers + 1)
        raw["data_s"].append(clocks()[0] - wall)
    return raw


def clocks() -> tuple[float, float]:
    """Seconds of the wall's clock, and of this process's CPU time."""
    return time.perf_counter(), time.process_time()


def memory(images: Path, quick: bool) -> Figures:
    """Bytes of the tables' pages, each counted once for all processes that map it (PSS)."""
    return dict(child("memory_in", {"images": str(images)}))


def memory_in(images: str) -> Figures:
    """Forked from one process, which saves their imports: each opens its data sets itself."""
    import otter_ray.projects.docclassifier
    import otter_ray.train.builders  # noqa: F401

    rows = {}
    for workers in (0, 2):
        one, several = (held(count, images, workers) for count in (1, PROCESSES))
        rows[f"{workers} workers"] = {"one_bytes": one, f"{PROCESSES}_bytes": several, "ratio": several / one}
    return rows


def held(count: int, images: str, workers: int) -> int:
    """What `count` trials map, with their loaders' workers, once all have read every image."""
    fork = multiprocessing.get_context("fork")
    read, done = fork.Barrier(count + 1), fork.Event()
    trials = [fork.Process(target=hold, args=(images, workers, read, done)) for _ in range(count)]
    for trial in trials:
        trial.start()
    read.wait()
    roots = [trial.pid for trial in trials if trial.pid]
    total = sum(mapped(pid) for root in roots for pid in (root, *children(root)))
    done.set()
    for trial in trials:
        trial.join()
    return total


def hold(images: str, workers: int, read: Barrier, done: Event) -> None:
    from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset
    from otter_ray.projects.docclassifier.data.training_set import SynthDataset
    from otter_ray.train.builders import build_dataloader

    valid = CaptureDataset(SIZE, root=images)
    count = SynthDataset(SIZE, root=images, valid_dataset=valid).num_classes
    train = SynthDataset(SIZE, root=images, valid_dataset=valid, aug_ratio=0, length_of_dataset=count)
    options = {"num_workers": workers, "persistent_workers": True}
    loaders = [build_dataloader(data, options, 16, workers + 1) for data in (train, valid)]
    for loader in loaders:
        for _ in loader:
            pass
    read.wait()
    done.wait()


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
    sets = {"images": str(images), "count": 200 if quick else 1000, "repeats": 2 if quick else 5}
    rows = {}
    for augmentation, raw in child("items_in", sets).items():
        ours, seeds = (median(raw[kind]) for kind in ("ours", "seeds"))
        rows[augmentation] = {"ours_per_s": ours, "seeds_per_s": seeds, "ratio": ours / seeds, "raw": raw}
    return rows


def items_in(images: str, count: int, repeats: int) -> dict[str, Any]:
    """Both in turns, over the same images in the same order with the same random numbers."""
    import cv2

    from otter_ray.projects.docclassifier.data.augment.cpu import AUGMENTATIONS, augmented
    from otter_ray.projects.docclassifier.data.common import picture
    from otter_ray.projects.docclassifier.data.training_set import SynthDataset

    rates: dict[str, Any] = {}
    for name, ratio in (("DefaultImageAug", 1.0), ("ImageNetAug", 1.0), ("CaptureAug", 0.5), ("none", 0.0)):
        function = "ImageNetAug" if name == "none" else name
        ours = SynthDataset(
            SIZE, root=images, aug_func=function, aug_ratio=ratio, length_of_dataset=count
        )  # fmt: skip
        transform, paths = AUGMENTATIONS[function](SIZE, ratio, 0), ours.class_names

        def seeds(index: int, ours: Any = ours, transform: Any = transform, paths: Any = paths) -> Any:
            label = ours.label(index)
            image = cv2.resize(cv2.imread(f"{images}/{paths[label]}", cv2.IMREAD_COLOR_RGB), SIZE)
            return picture(augmented(transform, image, [0, 1, 0, index]), True), label

        rates[name] = {"ours": [], "seeds": []}
        for _ in range(repeats):
            for kind, get in (("ours", ours.__getitem__), ("seeds", seeds)):
                started = time.perf_counter()
                for index in range(count):
                    get(index)
                rates[name][kind].append(count / (time.perf_counter() - started))
    return rates


def building(images: Path, quick: bool) -> Figures:
    """Images a second from files into a new cache, on one core and on all."""
    raw = child("building_in", {"images": str(images), "repeats": 2 if quick else 5})
    one, every = median(raw["one"]), median(raw["all"])
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "one_per_s": one, "all_per_s": every, "ratio": every / one, "raw": raw}


def building_in(images: str, repeats: int) -> dict[str, list[float]]:
    from otter_ray.vision.images import load_images

    cores = os.sched_getaffinity(0)
    raw: dict[str, list[float]] = {"one": [], "all": []}
    for _ in range(repeats):
        for kind, rates in raw.items():
            os.sched_setaffinity(0, cores if kind == "all" else [min(cores)])
            with tempfile.TemporaryDirectory() as cache:
                os.environ["OTTER_RAY_CACHE"] = cache
                started = time.perf_counter()
                count = len(load_images(images, SIZE, "root"))
                rates.append(count / (time.perf_counter() - started))
    return raw


def files(count: int) -> Figures:
    """Seconds and peak bytes of a process that caches the folder, and of a slot that opens it, four times."""
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
    from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset
    from otter_ray.projects.docclassifier.data.training_set import SynthDataset

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

    from otter_ray.vision.drawing import draw_document

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

    from otter_ray.vision.drawing import draw_document

    for index in range(500):
        picture = cv2.resize(draw_document(index), (400, 400), interpolation=cv2.INTER_AREA)
        cv2.imwrite(f"{folder}/{index:04d}.jpg", picture[..., ::-1])


def child(function: str, sets: Figures, cache: Path | None = None, show: bool = False) -> Any:
    """What the function gives in a process of its own; its progress bars are shown where asked for."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", function, json.dumps(sets)],
        env=os.environ | ({"OTTER_RAY_CACHE": str(cache)} if cache else {}),
        stdout=PIPE,
        stderr=None if show else DEVNULL,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


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
    parser.add_argument("--json", help="where the figures go, too")
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
            sys.stdout.flush()
    keep(arguments.json, "data", found)


if __name__ == "__main__":
    main()
