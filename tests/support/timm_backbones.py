"""Try timm's models as backbones: `python -m tests.support.timm_backbones [PATTERN]`.

Each that returns feature maps and is built within five seconds goes through what a start goes through, at
224 x 224 and at 128 x 192 px: the static checks and the pre-flight. It must pass, or be refused in one line
that names the reason. In full that takes hours; the sample in `test_timm_backbones.py` takes minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections import Counter

import timm

from otter_ray.config import Config, load_config
from otter_ray.errors import ConfigError, in_one_line
from otter_ray.isolation import ProcessCrashError, run_isolated
from otter_ray.space import SearchProblem, Space
from otter_ray.train.checks.validation import Checker
from otter_ray.tune.constraints import ModelStatsCache
from otter_ray.tune.preflight.models import preflight

SIZES = (224, 224), (128, 192)
PATIENCE = 5.0  # seconds that a model may take to be built
OK = "ok"


def config_of(name: str, size: tuple[int, int]) -> Config:
    """The demo with this backbone at this size."""
    return load_config("demo").with_values(
        {
            "model.backbone.options.name": name,
            "model.head.options.in_dim": -1,
            "model.head.options.feature_map_size": -1,
            "common.image_size": list(size),
            "global_settings.image_size": list(size),
            "onnx.input_shape.img.shape": [1, 3, *size],
        }
    )


def verdict(name: str, size: tuple[int, int]) -> str:
    """`ok`, the line that refuses the model, or `BUG` and whatever a user should never see."""
    config = config_of(name, size)
    try:
        if problems := Checker(0).problems(config):
            raise ConfigError(problems)
        preflight(SearchProblem(config, Space("none", ())), ModelStatsCache([]))
    except ConfigError as exc:
        message = str(exc)
        return message if names_the_reason(message) else f"BUG: {message}"
    except Exception as exc:
        traceback.print_exc()
        return f"BUG: {in_one_line(exc)}"
    return OK


def names_the_reason(message: str) -> bool:
    """Whether a refusal is one line that speaks of the model, not of a matrix product somewhere in it."""
    vague = "same reduction dim", "shapes cannot be multiplied", "Traceback"
    return "\n" not in message and not any(words in message for words in vague)


def features_models(pattern: str) -> list[str]:
    """Names of timm's models whose classes return feature maps when asked to, by how long they take."""
    return [name for name in timm.list_models() if re.search(pattern, name)]


def main() -> int:
    """Try the models; the exit code is 1 if one of them ended in a bug."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="Regular expression for names of models.")
    seen = Counter[str]()
    for name in features_models(parser.parse_args().pattern):
        started = time.perf_counter()
        try:
            run_isolated(lambda enter, name=name: timm.create_model(name, features_only=True) and None)
        except (ProcessCrashError, Exception) as exc:
            print(f"{name}: not tried: {in_one_line(exc)}", flush=True)
            seen["not tried"] += 1
            continue
        if time.perf_counter() - started > PATIENCE:
            print(f"{name}: not tried: takes more than {PATIENCE:.0f} s to be built", flush=True)
            seen["not tried"] += 1
            continue
        for size in SIZES:
            found = verdict(name, size)
            print(f"{name} at {size[0]}x{size[1]}: {found}", flush=True)
            seen[OK if found == OK else "bug" if found.startswith("BUG") else "refused"] += 1
    print(dict(seen))
    return int("bug" in seen)


if __name__ == "__main__":
    sys.exit(main())
