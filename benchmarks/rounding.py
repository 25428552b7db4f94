"""How far an ONNX file's outputs are from the exact ones, in units of PyTorch's own distance in float32.

    python benchmarks/rounding.py [--backbones NAME ...] [--seeds N] [--json FILE]

Each model takes few steps and is run on 56 images (84 positive pairs): its outputs lie close together. The
largest ratio decides `ROUNDING_FACTOR` in `otter_ray/export/rounding.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from results import keep
from torch.utils.data import DataLoader

from otter_ray.config import Config, load_config
from otter_ray.export.evaluation import evaluation_loader
from otter_ray.export.gate import _run_validation
from otter_ray.export.onnx_file import wrap, write_onnx
from otter_ray.export.reference import ReferenceModel, join_batches, largest_difference
from otter_ray.export.rounding import ROUNDING_UNIT, _exact
from otter_ray.train.builders import build_datasets, build_model, with_classes

torch.set_num_threads(1)
BACKBONES = (
    "lcnet_050", "mobilenetv3_small_050", "mobilenetv4_conv_small", "resnet18", "efficientnet_b0",
    "convnext_atto", "regnety_002", "mobileone_s0", "vit_tiny_patch16_224", "repghostnet_050",
)  # fmt: skip
HEADS = ("FeatureLearningSqueezeLBNHead", "FeatureLearningGAPHead")
STEPS = (1, 8)
PRECISIONS = (torch.float32, torch.bfloat16)
DATA = {
    "dataset.train_options.options.drawn": 40,
    "dataset.train_options.options.length_of_dataset": 32 * max(STEPS),
    "dataset.valid_options.options.drawn": 40,
    "dataset.valid_options.options.held_out": 14,
    "dataset.valid_options.options.captures": 4,
    "dataset.test_options": None,
}


def cases(backbones: list[str], seeds: int) -> Iterator[dict[str, Any]]:
    """Yield every combination of what may matter."""
    for values in product(backbones, HEADS, STEPS, PRECISIONS, range(seeds)):
        yield dict(zip(("backbone", "head", "steps", "precision", "seed"), values, strict=True))


def config_of(case: dict[str, Any]) -> Config:
    head = {"in_dim": -1, "embed_dim": 128} | ({"feature_map_size": -1} if "Squeeze" in case["head"] else {})
    changes = {
        "model.backbone.options.name": case["backbone"],
        "model.head": {"name": case["head"], "options": head},
        "common.seed": case["seed"],
    }
    return with_classes(load_config("demo").with_values(DATA | changes), 40)


def barely_trained(config: Config, train: Any, steps: int, precision: torch.dtype, seed: int) -> Any:
    """Return the config's model after a few steps of AdamW."""
    torch.manual_seed(seed)
    model = build_model(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for images, labels in DataLoader(train, 32, drop_last=True):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = model.loss(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (steps := steps - 1) == 0:
            break
    return model.eval()


def measure(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compare the ONNX file and PyTorch with the outputs in float64."""
    config = config_of(case)
    train, valid = build_datasets(config)
    model = barely_trained(config, train, case["steps"], case["precision"], case["seed"])
    wrapped, loader = wrap(config, model), evaluation_loader(config, valid)
    reference = ReferenceModel(config, model, wrapped, "valid_fpr@4", 0.0, torch.float32)
    write_onnx(config, wrapped, folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    file, pytorch, _, images, _ = _run_validation(session, reference, loader)
    in_float64 = _exact(reference)
    exact = join_batches([in_float64(model.exported_batch(batch)[0]) for batch in loader])
    assert images == 56
    unit = max(largest_difference([pytorch], [exact]), ROUNDING_UNIT)
    return {"unit": unit, "ratio": largest_difference([file], [exact]) / unit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backbones", nargs="+", default=[*BACKBONES])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", help="where the figures go, too")
    arguments = parser.parse_args()
    rows = []
    for case in cases(arguments.backbones, arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(case, Path(folder))
        rows.append({**case, "precision": str(case["precision"]), **found})
        print(json.dumps(rows[-1]), flush=True)
    print(f"largest ratio of {len(rows)}: {max(row['ratio'] for row in rows):.3g}")
    keep(arguments.json, "rounding", rows)


if __name__ == "__main__":
    main()
