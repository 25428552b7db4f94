"""Which files of lower precision are asked for, and which values of a checkpoint's metric are better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otter_ray.config import Config
from otter_ray.config.schema import Quantize
from otter_ray.config.types import validate
from otter_ray.direction import Direction
from otter_ray.errors import ConfigError, Problem
from otter_ray.train.checks.option_checks import quantize_problems

OPTION = "--quantize"


def asked_precisions(config: Config, precisions: Sequence[str]) -> Quantize | None:
    """Return the config's `quantize` section, with the command line's precisions if it names any.

    Raises:
        ConfigError: There is no such precision, or the config's training set cannot be used for it.
    """
    if not precisions:
        return config.quantize
    own = config.quantize.model_dump() if config.quantize else {}
    found, flaws = validate(Quantize, {**own, "do_quant": True, "precisions": [*precisions]})
    if found is None:
        raise ConfigError([Problem(OPTION, message) for _, message in flaws])
    if problems := quantize_problems(config.with_sets({"quantize": found.model_dump()})):
        raise ConfigError(problems)
    return found


def direction_of(record: Mapping[str, Any]) -> Direction:
    """Return which values of a checkpoint's metric are better.

    An earlier version did not note it. It noted which epochs were better than those before, and these tell,
    unless there is one alone: then larger values are taken for the better ones.

    Args:
        record: The checkpoint.
    """
    for known in Direction:
        if record.get("mode") == known:
            return known
    for state in (record.get("callbacks") or {}).values():
        reports = state.get("reports", []) if isinstance(state, Mapping) else []
        values = [each["metrics"].get(record["metric"]) for each in reports if each.get("improved")]
        if len(values) > 1 and None not in values:
            return Direction.MAX if values[-1] > values[0] else Direction.MIN
    return Direction.MAX
