"""Model statistics that need no training: the model is built, exported and run with random weights."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from otter_ray.config import Config
from otter_ray.config.schema import Onnx
from otter_ray.errors import ExportError, OtterError, in_one_line
from otter_ray.export.onnx_file import onnx_section, wrap, write_onnx
from otter_ray.space.constraint import LATENCY, MODEL_STATS, SIZE
from otter_ray.train.builders import build_model, with_classes, without_pretrained
from otter_ray.train.model.complexity import model_stats
from otter_ray.train.model.example_inputs import example_inputs, model_inputs
from otter_ray.train.model.module_mixin import BaseMixin

# A loss may need many classes (a top-k, a sample of them). These still cost no time.
ASSUMED_CLASSES = 1000
OTHER_BATCHES = (1, 3)  # in addition to the one that was traced
WARM_UP_RUNS, TIMED_RUNS = 5, 50


def untrained_model(config: Config) -> BaseMixin:
    """Build the config's model with random weights and, if it asks the data for classes, some of them.

    Raises:
        OtterError: Its parts do not fit together.
    """
    return build_model(without_pretrained(with_classes(config, ASSUMED_CLASSES)))


def measure_untrained(
    config: Config, names: Collection[str], model: BaseMixin | None = None
) -> dict[str, float]:
    """Measure the statistics `names` of a config's model with random weights.

    Args:
        config: Whose model is meant.
        names: Which statistics.
        model: It, with random weights, if it has been built.

    Raises:
        OtterError: The model cannot be built or exported.
    """
    with single_thread():
        try:
            return measure_model_stats(config, model or untrained_model(config), names)
        except (OtterError, OSError):
            raise
        except Exception as exc:  # whatever a model raises that does not fit together
            raise ExportError(in_one_line(exc)) from exc


@contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread, and leave its random numbers as they were.

    A small batch takes no longer on one thread. On a busy machine the threads of one step wait for each
    other: 5 s instead of 0.1 s were measured.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def measure_model_stats(
    config: Config, model: BaseMixin, names: Collection[str] = MODEL_STATS
) -> dict[str, float]:
    """Measure the statistics `names` of a model, in the order of MODEL_STATS. Its ONNX file is run for that.

    Args:
        config: The model's config.
        model: The model, with random weights.
        names: Which statistics.

    Raises:
        ExportError: The model cannot be exported, or the file does not run with batches of several sizes.
    """
    section = onnx_section(config)
    wrapped = wrap(config, model)
    found: dict[str, float] = {}
    found.update(model_stats(wrapped, model_inputs(config, 1)))
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as folder:
        file = Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            # The export of the winner says them again.
            warnings.simplefilter("ignore")
            write_onnx(config, wrapped, file)
        session = _session(file)
        for batch in OTHER_BATCHES:
            inputs = _named_inputs(config, section, batch)
            with torch.inference_mode():
                expected = wrapped(*inputs.values())
            _compare(session, inputs, [expected] if isinstance(expected, Tensor) else list(expected))
        found[SIZE] = file.stat().st_size
        if LATENCY in names:
            found[LATENCY] = _latency(session, _named_inputs(config, section, 1))
        for precision in dict.fromkeys(name.partition("@")[2] for name in names if "@" in name):
            lower = _of_precision(file, precision, section)
            found[f"{SIZE}@{precision}"] = lower.stat().st_size
            if f"{LATENCY}@{precision}" in names:
                found[f"{LATENCY}@{precision}"] = onnx_latency(lower, section)
    return {name: found[name] for name in MODEL_STATS if name in names}


def _named_inputs(config: Config, section: Onnx, batch: int) -> dict[str, Tensor]:
    return dict(zip(section.input_names, model_inputs(config, batch), strict=True))


def _of_precision(file: Path, precision: str, section: Onnx) -> Path:
    """Write a file of lower precision next to an fp32 file. Its ranges are those of made-up inputs.

    Neither its size nor its time depends on them.

    Raises:
        ExportError: onnxruntime's tools refuse the model.
    """
    from otter_ray.export.precision.conversion import Int8Converter, to_float16

    target = file.with_name(f"{precision}.onnx")
    try:
        if precision == "fp16":
            to_float16(file, target)
        else:
            inputs = _arrays(example_inputs(section, max(OTHER_BATCHES)))
            Int8Converter(file, file.parent, [inputs], "minmax").write(target)
    except Exception as exc:  # they raise anything
        raise ExportError(f"no {precision} file can be made: {in_one_line(exc)}") from exc
    return target


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors have no base of their own
        raise ExportError(f"onnxruntime refuses its ONNX file: {exc}") from exc


def _compare(
    session: onnxruntime.InferenceSession, inputs: dict[str, Tensor], expected: list[Tensor]
) -> None:
    """Raise ExportError if the file's outputs have other shapes than the model's.

    The gate compares values: those of random weights may be beyond any tolerance.
    """
    batch = len(next(iter(inputs.values())))
    try:
        outputs = session.run(None, _arrays(inputs))
    except Exception as exc:
        raise ExportError(f"its ONNX file does not run with a batch of {batch}: {exc}") from exc
    given, wanted = ([list(output.shape) for output in some] for some in (outputs, expected))
    if given != wanted:
        raise ExportError(f"its ONNX file gives {given} where PyTorch gives {wanted}")


def onnx_latency(file: Path, section: Onnx) -> float:
    """Return the milliseconds that an ONNX file takes for one input, on one thread."""
    return _latency(_session(file), example_inputs(section, 1))


def _latency(session: onnxruntime.InferenceSession, inputs: dict[str, Tensor]) -> float:
    """Return milliseconds: the median of repeated runs, which a busy moment does not change."""
    arrays, seconds = _arrays(inputs), []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        started = time.perf_counter()
        session.run(None, arrays)
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds[WARM_UP_RUNS:]), 4)


def _arrays(inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}
