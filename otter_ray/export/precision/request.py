"""Which files of lower precision are asked for, and which values of a checkpoint's metric are better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otter_ray.config import Config
from otter_ray.config.schema import Quantize
from otter_ray.config.types import validate
from otter_ray.direction import Direction
from otter_ray.errors import ConfigError, ExportError, Problem
from otter_ray.train.checks.option_checks import quantize_problems

OPTION = "--quantize"


def asked_precisions(config: Config, precisions: Sequence[str]) -> Quantize | None:
    """Return the config's `quantize` section, with the command line's precisions if it names any.

    Raises:
        ConfigError: There is no such precision, or the config's training set cannot be used for it.
    """
    if not precisions:
        return config.quantize
    if "quantize" not in type(config).model_fields:
        message = f"project: {config.project} exports fp32 files alone: its config has no quantize section."
        raise ConfigError([Problem(OPTION, f"{message} Leave the option out.")])
    own = config.quantize.model_dump() if config.quantize else {}
    found, flaws = validate(Quantize, {**own, "do_quant": True, "precisions": [*precisions]})
    if found is None:
        raise ConfigError([Problem(OPTION, message) for _, message in flaws])
    if problems := quantize_problems(config.with_sets({"quantize": found.model_dump()})):
        raise ConfigError(problems)
    return found


def direction_of(record: Mapping[str, Any], mode: Direction | None = None) -> Direction:
    """Return which values of a checkpoint's metric are better.

    An earlier version did not note it. It noted which epochs were better than those before, and these tell,
    unless there is one alone.

    Args:
        record: The checkpoint.
        mode: What the user says: `max` or `min`.

    Raises:
        ExportError: The checkpoint does not tell, and the user does not say.
    """
    for known in Direction:
        if (mode or record.get("mode")) == known:
            return known
    for state in (record.get("callbacks") or {}).values():
        reports = state.get("reports", []) if isinstance(state, Mapping) else []
        values = [each["metrics"].get(record["metric"]) for each in reports if each.get("improved")]
        if len(values) > 1 and None not in values:
            return Direction.MAX if values[-1] > values[0] else Direction.MIN
    raise ExportError(
        f"{record['metric']}: an earlier version did not note in the checkpoint which values are better, so "
        "nothing says what a file of lower precision loses. Add --mode max or --mode min."
    )
