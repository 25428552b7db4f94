"""What is done with torch before a study's trials start, for a driver that has not imported it.

The driver runs these through `otter_ray.isolation.call`. Importing this module imports no torch.
"""

from __future__ import annotations

import logging

from otter_ray.config import Config
from otter_ray.space import SearchProblem, idle_parameters
from otter_ray.study.layout import MODEL_STATS_FILE, StudyFolder
from otter_ray.tune.constraints import ModelStatsCache, violations

logger = logging.getLogger(__name__)


def check_problem(problem: SearchProblem, gpus: float, starts: bool) -> SearchProblem:
    """Check the config, the space and each branch of it as code, without data.

    Args:
        problem: to be searched.
        gpus: that the machines have.
        starts: whether the study is new.

    Returns:
        The problem as it is searched.

    Raises:
        ConfigError: the config or the space cannot be used.
    """
    from otter_ray.tune.preflight.doubts import doubts
    from otter_ray.tune.preflight.idle_options import idle_options
    from otter_ray.tune.preflight.static_checks import check_study, resolve

    problem = resolve(problem)
    check_study(problem, gpus, starts=starts)
    for doubt in (*doubts(problem), *idle_parameters(problem), *idle_options(problem)):
        logger.warning(str(doubt))
    return problem


def try_problem(problem: SearchProblem, folder: StudyFolder) -> SearchProblem:
    """Try each model, read all data and fetch all weights that the trials will use.

    Args:
        problem: to be searched.
        folder: of the study.

    Returns:
        The problem, with a config that starts from the study's own copy of a checkpoint.

    Raises:
        ConfigError: a model that the space reaches cannot be built, trained or exported.
        DataError: the data of the config, or of a branch of the space, cannot be used.
        TrainingError: weights to start from are not available, or do not fit.
    """
    from otter_ray.train.tracking.environment import write_environment
    from otter_ray.tune.preflight.data import prepare_data
    from otter_ray.tune.preflight.models import preflight
    from otter_ray.tune.preflight.weights import copy_source_checkpoint, prepare_weights

    options = problem.options
    stats = ModelStatsCache(options.model_stats, folder.path / MODEL_STATS_FILE)
    preflight(problem, stats)
    if broken := violations(problem.config, options, stats):
        logger.warning(
            f"the base config violates {', '.join(broken)}. It is trained, so that gains can be measured, "
            "but it cannot win."
        )
    problem = copy_source_checkpoint(problem, folder)
    prepare_weights(problem, prepare_data(problem, folder))
    write_environment(folder.path, problem.config.project)
    return problem


def share_run_loggers(config: Config, group: str) -> None:
    """Make what a study's runs share in their loggers, before several runs do it at once.

    Args:
        config: the base config.
        group: the study's name.

    Raises:
        ConfigError: a server cannot be reached.
    """
    from otter_ray.train.tracking.loggers import prepare_loggers

    prepare_loggers(config, group)
