"""The driver's side of a running study: what Ray Tune calls with each event, and the run itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune import Callback
from ray.tune.execution import class_cache
from ray.tune.schedulers import TrialScheduler

from otter_ray.report.rows import read_rows
from otter_ray.tune.cluster import LiveLimit
from otter_ray.tune.figures import violated
from otter_ray.tune.groups import GroupRemover
from otter_ray.tune.halt import Halt, HaltTune, two_interrupts
from otter_ray.tune.limits import Limits
from otter_ray.tune.metrics import StudyMetrics
from otter_ray.tune.mirror import JournalMirror
from otter_ray.tune.names import trial_name
from otter_ray.tune.part import TrialSetup
from otter_ray.tune.plan import Plan
from otter_ray.tune.progress import Progress
from otter_ray.tune.room import CheckpointSweeper
from otter_ray.tune.run import Search
from otter_ray.tune.scheduler import build_scheduler
from otter_ray.tune.searcher import OptunaBridge
from otter_ray.tune.show import Show
from otter_ray.tune.state import StudyState
from otter_ray.tune.trial import run_trial


@dataclass(frozen=True)
class Driver:
    """What Ray Tune calls: the searcher, the scheduler, and callbacks, in their order.

    Attributes:
        halting: the one of the callbacks that ends the search.
        sweeper: the one that deletes checkpoints.
    """

    bridge: OptunaBridge
    scheduler: TrialScheduler
    halting: HaltTune
    sweeper: CheckpointSweeper
    callbacks: list[Callback]


def make_driver(
    search: Search,
    plan: Plan,
    show: Show,
    autoscaler: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Driver:
    """That of a search."""
    config, space, study = search.config, search.space, search.study
    options, book = space.study, search.book
    halt = Halt(study, limits, show.tell, search.place)
    halting = HaltTune(halt)
    bridge = OptunaBridge(study, space, config, halt, LiveLimit(plan, autoscaler), book)
    keep = max(options.keep_best, search.exports.count)
    sweeper = CheckpointSweeper(study, search.folder, search.storage, options, keep, show.console)
    state = StudyState(
        options,
        config.trainer.max_epochs,
        plan,
        title=f"{config.name}/{search.folder.name}",
        rows=read_rows(study),
        base_counts=not violated(config, options, book),
        labels=search.labels,
        place=search.place,
        until=halt.until,
    )
    progress = Progress(study, state, show, StudyMetrics(show.console))
    callbacks = [halting, progress, GroupRemover(), sweeper]
    if search.storage is not None:
        callbacks.append(JournalMirror(search.storage, search.folder.path, show.console))
    scheduler = build_scheduler(options, bridge, config.trainer.max_epochs, search.is_kept)
    return Driver(bridge, scheduler, halting, sweeper, callbacks)


def run_trials(
    search: Search,
    plan: Plan,
    show: Show,
    autoscaler: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Halt:
    """Runs the trials that the plan counts, as many at once as the nodes hold.

    Returns:
        Why it ended before all of them had, if it did.

    Raises:
        KeyboardInterrupt: Ctrl-C came twice.
    """
    config, space = search.config, search.space
    setup = TrialSetup(
        config=config.to_dict(),
        config_name=config.name,
        study=str(search.folder.path),
        mark=search.folder.marked(),
        storage=search.storage,
        metric=space.study.metric,
        rung_metric=space.study.scheduler.metric or space.study.metric,
        keep_every=getattr(space.study.scheduler.options, "perturbation_interval", None),
        mode=space.study.mode,
        workers=plan.workers,
        cpus=plan.cpus,
        gpus=plan.gpus,
        cwd=os.getcwd(),
        searched=tuple(dict.fromkeys(key for parameter in space.parameters for key in parameter.keys)),
    )
    resources = tune.PlacementGroupFactory([setup.slot])
    trainable = tune.with_resources(partial(run_trial, setup), resources)
    # What the dashboard's list of actors shows: a slot runs many trials.
    trainable.__name__ = f"{config.name}/{search.folder.name}"
    return run_trainable(trainable, search, plan, show, autoscaler, limits)


@contextmanager
def inherited_environment() -> Iterator[None]:
    """On a Ray of our own slots have the driver's environment.

    Tune names what it wants them to have, and Ray starts other processes for that: those that have begun to
    import (`ray_session`) would never be used.
    """
    if ray.get_runtime_context().runtime_env:
        yield
        return
    named = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = named


def run_trainable(
    trainable: Any,
    search: Search,
    plan: Plan,
    show: Show,
    autoscaler: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Halt:
    """Runs a Tune trainable that takes and reports what `run_trial` does."""
    config = search.config
    driver = make_driver(search, plan, show, autoscaler, limits)
    scratch = tempfile.mkdtemp(prefix="otter_ray_")
    try:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=driver.bridge,
                scheduler=driver.scheduler,
                # The bridge says when there are no more: one may have to be handed out twice.
                num_samples=-1,
                # A slot that only waits for a worker group holds nothing warm, and ends with its group.
                reuse_actors=plan.workers == 1,
                trial_name_creator=lambda trial: trial_name(config.name, trial.config),
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=search.folder.path.name,
                storage_path=scratch,
                verbose=0,
                callbacks=driver.callbacks,
                stop=driver.halting,
                # A node that was announced to go does not count.
                failure_config=tune.FailureConfig(max_failures=search.space.study.retries),
            ),
        )
        with two_interrupts(driver.bridge.halt), show.running(), inherited_environment():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    driver.sweeper.finish(plan.slots)
    return driver.bridge.halt
