"""Compare the metrics that a config or a study waits for with those that the model's class declares."""

from __future__ import annotations

from typing import Any

from otter_ray.config import Config
from otter_ray.direction import Direction
from otter_ray.errors import ConfigError, Problem, did_you_mean
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.train.registry import by_project, find_class


@by_project
def metric_problem(config: Config, metric: str) -> str:
    """Return why a study cannot optimize `metric`; empty if it can: the gate must be able to measure it."""
    cls, name = find_class(config.model.name, "model", config.project), config.model.name
    if getattr(cls, "score", None) in (None, BaseMixin.score):
        return (
            f"{metric!r} cannot be measured on an exported model: {name} does not implement "
            "score(outputs, labels). Implement it; see docs/reference/project.md."
        )
    rule = _undeclared(cls, "SCORES", metric, f"{name} scores")
    return rule and f"{metric!r} cannot be measured on an exported model.{rule}"


@by_project
def first_score(config: Config) -> str:
    """Return the metric that the model declares first: what a run is about if nobody says.

    Raises:
        ConfigError: The model declares none.
    """
    scores = getattr(find_class(config.model.name, "model", config.project), "SCORES", ())
    if not scores:
        message = f"is not given, and {config.model.name} declares no SCORES. Give a metric that it logs."
        raise ConfigError([Problem("--metric", message)])
    return str(scores[0])


@by_project
def best_direction(config: Config, metric: str) -> Direction | None:
    """Return which values of one of the model's scores are better; None if its class does not say."""
    cls = find_class(config.model.name, "model", config.project)
    lower = getattr(cls, "LOWER_IS_BETTER", None)
    if lower is None or metric not in getattr(cls, "SCORES", ()):
        return None
    return Direction.MIN if metric in lower else Direction.MAX


@by_project
def unlogged(config: Config, name: str) -> str:
    """Return why nothing can wait for the metric `name`; empty if it is logged, or may be."""
    cls = find_class(config.model.name, "model", config.project)
    rule = _undeclared(cls, "METRICS", name, "It logs")
    return rule and f"{config.model.name} never logs {name!r}.{rule}"


def monitor_problems(config: Config) -> list[Problem]:
    """Return the callbacks, and the schedule, that wait for a metric which is never logged."""
    monitored = {
        f"callbacks.{index}.options.monitor": callback.options.get("monitor")
        for index, callback in enumerate(config.callbacks)
    }
    if config.lr_scheduler is not None:
        monitored["lr_scheduler.pl_options.monitor"] = config.lr_scheduler.pl_options.get("monitor")
    wrong = {key: unlogged(config, name) for key, name in monitored.items() if isinstance(name, str)}
    return [config.problem(key, message) for key, message in wrong.items() if message]


def _undeclared(cls: type[Any], attribute: str, name: str, intro: str) -> str:
    """Return what the model's class declares instead of `name`; empty if it declares it, or nothing."""
    declared = getattr(cls, attribute, ())
    if not declared or name in declared:
        return ""
    return f"{did_you_mean(name, declared)} {intro} {', '.join(declared)}."
