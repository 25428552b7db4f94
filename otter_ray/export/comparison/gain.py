"""What the winner gains over the base config: on the same items, resampled together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.direction import Direction
from otter_ray.errors import ExportError
from otter_ray.export.comparison.network import Network, Score, onnx_network, same_labels
from otter_ray.export.evaluation import config_of, evaluation_loader, read_run_checkpoint, unpacked
from otter_ray.export.gate import Predictions
from otter_ray.train.builders import build_test, build_valid, load_model_from_config
from otter_ray.train.model.replicates import paired_interval


@dataclass(frozen=True)
class Winner:
    """A file that has passed the gate, with the items that it was measured on.

    Attributes:
        network: The file's.
        metric: The study's.
        valid: The validation set.
        predictions: Of the file, for the validation set.
        test: The test set, if there is one.
    """

    network: Network
    metric: str
    valid: Dataset[Any]
    predictions: Predictions
    test: Dataset[Any] | None


@dataclass(frozen=True)
class Compared:
    """The base config's model next to the winner's.

    Attributes:
        facts: For the JSON: `value` and `interval` of the base on the validation set, `test` with the same on
            the test split, the winner's `gain` and `test_gain`, and in `unpaired` why one is not known.
        predictions: Of the base, for its validation set.
        valid: That set.
    """

    facts: dict[str, Any]
    predictions: Predictions
    valid: Dataset[Any]


def measured_winner(file: Path, checkpoint: Path, project: str | None, predictions: bytes = b"") -> Winner:
    """Return a winner's ONNX file with its predictions for the validation set.

    Args:
        file: The ONNX file.
        checkpoint: That it was exported from.
        project: The one that the checkpoint may import (see `config_of`).
        predictions: Those of the gate (`Exported.predictions`); without them, the file is run.
    """
    record = read_run_checkpoint(checkpoint)
    config = config_of(record, checkpoint, project)
    network = onnx_network(file, config, load_model_from_config(config, checkpoint))
    valid = build_valid(config)
    found = unpacked(predictions) or network.predict(evaluation_loader(config, valid))
    return Winner(network, record["metric"], valid, found, build_test(config, valid))


def compare(base: Network, winner: Winner, direction: Direction) -> Compared:
    """Measure the base config's model, and the winner's gain over it.

    If both take the same inputs, they see the same batches. Otherwise each sees the sets of its own config,
    which can only be compared if both configs describe the same set, and their class names are equal.

    Args:
        base: The base config's network.
        winner: The winner's file.
        direction: Which values of the metric are better.

    Raises:
        OtterError: The base's model cannot be measured.
    """
    is_shared = base.takes_the_same_inputs(winner.network)
    valid = winner.valid if is_shared else build_valid(base.config)
    predictions = base.predict(evaluation_loader(_loading(base, winner, is_shared), valid))
    of_base = base.score(predictions, winner.metric, valid)
    of_winner = winner.network.score(winner.predictions, winner.metric, winner.valid)
    unpaired = _unpaired(of_base, of_winner, is_shared, _differing(base, winner, "valid_options"))
    facts: dict[str, Any] = {
        "value": of_base.value,
        "interval": of_base.interval,
        "gain": None if unpaired else gain_of(of_winner, of_base, direction),
        "test": None,
        "test_gain": None,
        "unpaired": unpaired,
    }
    if winner.test is not None:
        test = winner.test if is_shared else build_test(base.config, valid)
        if test is None:
            raise ExportError("the base config has no test split, and the winner's has one")
        of_test = _on_the_test_split(base, test, winner, winner.test, direction)
        facts |= {**of_test, "unpaired": unpaired or of_test["unpaired"]}
    return Compared(facts, predictions, valid)


def gain_of(better: Score, other: Score, direction: Direction) -> dict[str, Any]:
    """Return how much better a model is than another one on the same items, and the 95 % interval of that."""
    value = direction.sign * (better.value - other.value)
    pair = (better.replicates, other.replicates)
    # The smaller metric is the better one: what the other has more of it is gained.
    first, second = pair if direction is Direction.MAX else pair[::-1]
    return {"value": value, "interval": paired_interval(value, first, second)}


def _on_the_test_split(
    base: Network, its: Dataset[Any], winner: Winner, own: Dataset[Any], direction: Direction
) -> dict[str, Any]:
    """Return what `compare` does of the test split: the base's set, which may be the winner's own."""
    of_base = base.measure(its, winner.metric, _loading(base, winner, its is own))
    of_winner = winner.network.measure(own, winner.metric)
    unpaired = _unpaired(of_base, of_winner, its is own, _differing(base, winner, "test_options"))
    return {
        "test": {"value": of_base.value, "interval": of_base.interval},
        "test_gain": None if unpaired else gain_of(of_winner, of_base, direction),
        "unpaired": unpaired,
    }


def _loading(base: Network, winner: Winner, is_shared: bool) -> Config:
    return winner.network.config if is_shared else base.config


def _differing(base: Network, winner: Winner, part: str) -> str:
    """Return the key of a data set's section if the two configs differ in it: a space may change it."""
    sections = [each.config.data_section.model_dump() for each in (base, winner.network)]
    first, second = (section.get(part) for section in sections)
    return "" if first == second else f"dataset.{part}"


def _unpaired(base: Score, winner: Score, is_shared: bool, key: str = "") -> str:
    """Return why two models were not measured on the same items; empty if they were.

    Args:
        base: Of the base config's model.
        winner: Of the winner.
        is_shared: Whether both saw the same batches.
        key: Of the data set's section, if the two configs describe it differently.
    """
    if not is_shared and key:
        return f"base and winner take different inputs, and their configs differ in {key}"
    if not is_shared and (base.names is None or list(base.names) != list(winner.names or ())):
        return "base and winner take different inputs, and nothing says that they saw the same items"
    if not (math.isfinite(base.value) and math.isfinite(winner.value)):
        return "the metric of one of the two is not a number"
    if not same_labels(base.labels, winner.labels):
        return "the labels of base and winner differ"
    return ""
