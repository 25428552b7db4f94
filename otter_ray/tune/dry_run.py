"""`--dry-run`: check all that a start checks, print sampled configs and the plan, and start nothing.

The preparation runs as for a start, in a temporary folder with copies of the files that it reads or changes.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import optuna

from otter_ray.disk import nearest_folder
from otter_ray.errors import StudyError
from otter_ray.formatting import si_number
from otter_ray.space import SearchProblem
from otter_ray.study.diff import config_changes
from otter_ray.study.initial_trials import InitialTrials
from otter_ray.study.layout import RESTORED, TRIALS, StudyFolder
from otter_ray.study.opening import name_taken, open_folder, refuse_links_out, study_lock
from otter_ray.study.storage import Storage
from otter_ray.tune.cluster.node_checks import check_nodes, check_storage
from otter_ray.tune.cluster.planner import log_plan, plan_for
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.constraints import ModelStatsCache
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.preparation import Machines, check, open_study_folder, prepare_study
from otter_ray.tune.request import StudyRequest
from otter_ray.tune.samplers.factory import build_sampler
from otter_ray.tune.selection.finalists import finals_note

# Kinds of files in a study's folder that its preparation reads or changes.
COPIED = (".journal", ".json", ".txt", ".yaml")
logger = logging.getLogger(__name__)


def dry_run(request: StudyRequest, session: RaySession, samples: int, reporter: ProgressReporter) -> None:
    """Print sampled configs of a study, its search space, and at last its plan.

    Args:
        request: what is asked for.
        session: is started to look at a running Ray, and stopped again.
        samples: the number of configs.
        reporter: shows the configs.

    Raises:
        OtterError: the study could not start.
    """
    if request.address is not None:
        session.start()
    machines = Machines.of(request.address)
    request = check(request, machines)
    initial = InitialTrials(request.problem, request.warm_start, request.runs)
    if not request.resume:
        initial.load()
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as scratch:
        folder = _open_copy(request, Path(scratch))
        _check_places(request)
        session.stop()
        context = prepare_study(request, folder, None, initial)
        _show_samples(request.problem, samples, reporter)
        _log_search(request.problem, context.model_stats)
        _log_plan(context, request.problem, machines)
    logger.info("the study can start; nothing was started")


def _open_copy(request: StudyRequest, runs: Path) -> StudyFolder:
    """Return a folder below `runs` that holds what the command would find in the study's own.

    Raises:
        StudyError: the name is taken, there is no such study, or another process runs it.
    """
    config, name = request.problem.config.name, request.name
    if not request.resume:
        _check_new_folder(request)
    elif request.storage is None or (name and StudyFolder(request.runs / config / name).journal.exists()):
        own = open_folder(request.runs, config, name)
        name = own.name
        with study_lock(own):
            refuse_links_out(own)
            _copy(own, StudyFolder(runs / config / name))
    folder, _ = open_study_folder(replace(request, runs=runs, name=name))
    return folder


def _check_new_folder(request: StudyRequest) -> None:
    """Check that the folder of a new study can be made.

    Raises:
        StudyError: its name is taken, or nothing can be written there.
    """
    folder = (request.runs / request.problem.config.name / (request.name or "")).absolute()
    if request.name is not None and folder.is_dir():
        raise name_taken(request.name, folder.parent)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".otter_ray_", dir=there):
            pass
    except OSError as exc:
        raise StudyError(f"{folder} cannot be written: {exc}. Give another --runs.") from exc


def _copy(folder: StudyFolder, copy: StudyFolder) -> None:
    (copy.path / TRIALS).mkdir(parents=True)
    for file in folder.path.iterdir():
        if file.suffix in COPIED and file.is_file():
            shutil.copyfile(file, copy.path / file.name)
    if (restored := folder.path / RESTORED).is_dir():
        (copy.path / RESTORED).symlink_to(restored)


def _check_places(request: StudyRequest) -> None:
    """Check that a storage can be written to, and that the nodes of a running Ray see where the study goes.

    Raises:
        StudyError: they do not.
    """
    storage = None if request.storage is None else Storage.of(request.storage)
    if storage is not None:
        check_storage(storage)
    if request.address is not None:
        check_nodes(nearest_folder(request.runs), storage)


def _log_plan(context: StudyContext, problem: SearchProblem, machines: Machines) -> None:
    options, left = problem.options, context.trials_left()
    if not left:
        logger.info(f"all {options.num_trials} trials are done; for more, raise --trials")
        return
    note = finals_note(options, problem.config.trainer.max_epochs)
    log_plan(plan_for(problem.with_trials(left), machines.nodes, machines.scale_ups), problem.config, note)


def _log_search(problem: SearchProblem, stats: ModelStatsCache) -> None:
    """Log what is searched, for what, and within which constraints."""
    config, options = problem.config, problem.options
    logger.info(
        f"search: {options.sampler.name} + {options.scheduler.name} (on {options.scheduler_metric}), "
        f"best {options.metric} ({options.mode}), at most {config.trainer.max_epochs} epochs a trial"
    )
    for name, mode in options.objectives.items():
        logger.info(f"  objective {name} ({mode})")
    for bound in options.bounds:
        logger.info(f"  constraint {bound.text} (base {si_number(stats.of(config)[bound.stat])})")
    base = problem.base_params
    for parameter in problem.space.parameters:
        own = f"base {base[parameter.name]}" if parameter.name in base else "not in the base config"
        logger.info(f"  {parameter} ({own})")


def _show_samples(problem: SearchProblem, samples: int, reporter: ProgressReporter) -> None:
    """Show what some configs of the space change in the base config."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=build_sampler(problem))
    for index in range(samples):
        sampled = problem.config.with_values(problem.suggest(study.ask()))
        reporter.show(f"sampled config {index + 1}")
        changes = [f"  {change}" for change in config_changes(problem.config, sampled)]
        reporter.show("\n".join(changes) or "  the base config")
