"""How much too good the best of several models is expected to look on the items that it was chosen by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from otter_ray.direction import Direction
from otter_ray.errors import in_one_line
from otter_ray.export.comparison.gain import Winner
from otter_ray.export.comparison.network import Network, Score, same_labels
from otter_ray.train.model.replicates import Replicates

logger = logging.getLogger(__name__)
MAX_SECONDS = 60.0  # after which no further model is measured


def selection_optimism(
    winner: Winner,
    others: Iterable[Callable[[], Network]],
    direction: Direction,
    seconds: float = MAX_SECONDS,
) -> dict[str, Any] | None:
    """Choose again among the winner and others, in resamples of the validation set.

    Args:
        winner: The winner's file.
        others: Each loads a network that was not chosen. One that cannot be loaded or measured, or does not
            take the winner's inputs, is left out.
        direction: Which values of the metric are better.
        seconds: After which no further network is measured.

    Returns:
        `models`, the number that was chosen among, and `optimism`, by how much the chosen one's value in a
        resample exceeds its value on the whole set on average; None if nothing can be said.
    """
    own = winner.network.score(winner.predictions, winner.metric)
    if own.replicates is None:
        return None
    values, replicates = [own.value], [own.replicates]
    until = time.monotonic() + seconds
    for open_network in others:
        if time.monotonic() > until:
            break
        try:
            score = _measured(open_network(), winner)
        except Exception as exc:  # of a checkpoint that an earlier version of the project's code wrote
            logger.info(f"a model is left out of the selection's estimate: {in_one_line(exc)}")
            continue
        if score and score.replicates is not None and same_labels(score.labels, own.labels):
            values.append(score.value)
            replicates.append(score.replicates)
    optimism = expected_optimism(values, replicates, direction)
    return None if optimism is None else {"models": len(values), "optimism": optimism}


def _measured(network: Network, winner: Winner) -> Score | None:
    """Measure a network on the winner's items; None if it does not take their inputs."""
    if not network.takes_the_same_inputs(winner.network):
        return None
    return network.measure(winner.valid, winner.metric, winner.network.config)


def expected_optimism(
    values: Sequence[float], replicates: Sequence[Replicates], direction: Direction
) -> float | None:
    """Return by how much the best of some models is too good in a resample, on average; None for one model.

    A resample's values are moved by each model's bias in resamples, so that their mean is the model's value.

    Args:
        values: Of the models, on the whole set.
        replicates: Of the models, in the same resamples.
        direction: Which values are better.
    """
    drawn = direction.sign * np.stack([each.values for each in replicates])
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if len(values) < 2 or drawn.shape[1] < 2:
        return None
    errors = drawn - drawn.mean(axis=1, keepdims=True)
    chosen = (errors + direction.sign * np.array(values)[:, None]).argmax(axis=0)
    return float(np.take_along_axis(errors, chosen[None], axis=0).mean())
