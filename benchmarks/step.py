"""Images a second of a whole trial against a bare PyTorch loop over the same model with no data to load.

    python benchmarks/step.py [CONFIG] [--sizes 64 128] [--precisions 32] [--set KEY=VALUE]
        [--device cpu|cuda] [--json FILE]

The bare loop: forward, loss, backward, clip, step, on one batch that lies where the model is, in the memory
format and the precision of the trial, with the same number of threads; and once in torch's default format, as
most people write it. The trial: everything that one does after its start, with data, augmentation, logging,
validation and checkpoints; once with images that are not augmented; and on a GPU both once more with
`aug_on: device`, and augmented by DocClassifier's own sets.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from itertools import product
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from results import keep

from otter_ray.config import Config, load_config
from otter_ray.cpus import available_cpus
from otter_ray.train.builders import build_datasets, build_model, fill_classes, with_classes
from otter_ray.train.run_options import RunHooks
from otter_ray.train.trainer import run_training

BARE_SECONDS = 5.0


def resized(config: Config, side: int) -> Config:
    """The config for images of side x side pixels."""
    [name] = config.onnx.input_shape
    shape = [1, 3, side, side]
    sizes = {key: [side, side] for key in ("common.image_size", "global_settings.image_size")}
    return config.with_values({**sizes, f"onnx.input_shape.{name}.shape": shape})


def bare(config: Config, device: str, classes: int, layout: torch.memory_format) -> float:
    """Images a second of the loop that one would write by hand."""
    model = build_model(with_classes(config, classes)).to(device, memory_format=layout).train()  # type: ignore[call-overload]
    options = config.optimizer.options
    optimizer = getattr(torch.optim, config.optimizer.name)(model.parameters(), **options)
    size, batch = config.common.image_size, config.common.batch_size
    images = torch.rand(batch, 3, *size, device=device).to(memory_format=layout)
    labels = torch.randint(classes, (batch,), device=device)
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(config.trainer.precision))

    def step() -> None:
        with torch.autocast(device, dtype=half or torch.bfloat16, enabled=half is not None):
            loss = model.loss(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.trainer.gradient_clip_val or 1e9)
        optimizer.step()

    for _ in range(5):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < BARE_SECONDS:
        step()
        steps += 1
        if device == "cuda" and steps % 20 == 0:
            torch.cuda.synchronize()
    if device == "cuda":
        torch.cuda.synchronize()
    return steps * batch / (time.perf_counter() - begun)


def trial(config: Config, images: int) -> float:
    """Images a second from the second epoch's beginning to the last one's end."""
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run_training(config, Path(folder), lambda _: marks.append(time.perf_counter()), hooks=RunHooks())
    return images * (len(marks) - 1) / (marks[-1] - marks[0])


def measure(config: Config, device: str, repetitions: int) -> dict[str, Any]:
    """Images a second of every way, and of the trial how much of the bare loop's that is."""
    train, _ = build_datasets(config)
    classes = fill_classes(config, train).model.loss.arguments["num_classes"]
    items = len(train) // config.common.batch_size * config.common.batch_size
    clean = config.with_values({"dataset.train_options.options.aug_ratio": 0.0})
    ways = {
        "bare loop": lambda: bare(config, device, classes, torch.channels_last),
        "bare loop in the default memory format": lambda: bare(
            config, device, classes, torch.contiguous_format
        ),
        "trial": lambda: trial(config, items),
        "trial without augmentation": lambda: trial(clean, items),
    }
    if device == "cuda":
        ways |= {
            f"trial, aug_on: device, {name}": partial(trial, config.with_values(changes), items)
            for name, changes in on_device(config).items()
        }
    runs: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repetitions):
        for way, run in ways.items():
            L.seed_everything(0, verbose=False)
            runs[way].append(run())
    return {
        "images_per_s": {way: {"median": median(v), "spread": [min(v), max(v)]} for way, v in runs.items()},
        "of_bare": {way: median(map(truediv, v, runs["bare loop"])) for way, v in runs.items()},
    }


def on_device(config: Config) -> dict[str, dict[str, Any]]:
    """What each way of augmenting on the device changes in the config."""
    options = "dataset.train_options.options"
    whole = {f"{options}.aug_ratio": 1.0}
    changes: dict[str, dict[str, Any]] = {
        "not augmented": {f"{options}.aug_ratio": 0.0},
        "augmented as the config asks": {},
        "all by ImageNetAug": {**whole, f"{options}.aug_func": "ImageNetAug"},
        "all by DefaultImageAug": {**whole, f"{options}.aug_func": "DefaultImageAug"},
    }
    return {name: {f"{options}.aug_on": "device", **each} for name, each in changes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config", nargs="?", default="demo")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="sides of the images, px")
    parser.add_argument("--precisions", nargs="+", help="of the trainer; by default the config's")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.sets)
    config = config.with_values(
        {
            "trainer.max_epochs": arguments.epochs,
            "trainer.accelerator": {"cuda": "gpu"}.get(arguments.device, "cpu"),
        }
    )
    torch.set_num_threads(available_cpus())
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    figures: dict[str, Any] = {"config": config.name, "device": name, "jobs": {}}
    for side, precision in product(arguments.sizes, arguments.precisions or [config.trainer.precision]):
        job = resized(config, side).with_values({"trainer.precision": precision})
        label = f"{side} px, precision {precision}"
        figures["jobs"][label] = measure(job, arguments.device, arguments.repetitions)
        print(json.dumps({label: figures["jobs"][label]}, indent=1), flush=True)
        keep(arguments.json, "step", figures)


if __name__ == "__main__":
    main()
