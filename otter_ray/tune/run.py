"""A study, from the plan to the proven ONNX file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from rich.console import Console

from otter_ray.config import Config, Space
from otter_ray.errors import StudyError
from otter_ray.report.finals import FINALISTS
from otter_ray.report.rows import rank, read_rows
from otter_ray.train.record import write_environment
from otter_ray.tune.changes import agree, carry_over
from otter_ray.tune.distributions import searched_together
from otter_ray.tune.endings import ended, failed_alike, settle
from otter_ray.tune.exports import THE_BEST, Exports
from otter_ray.tune.figures import FILE, FigureBook, violated
from otter_ray.tune.first import enqueue_first
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.names import trial_name
from otter_ray.tune.plan import Plan
from otter_ray.tune.preflight import preflight
from otter_ray.tune.prepare import keep_restore, prepare_data, prepare_weights
from otter_ray.tune.storage import Storage, kept_checkpoint

if TYPE_CHECKING:
    from otter_ray.tune.halt import Halt
    from otter_ray.tune.limits import Limits


@dataclass(frozen=True)
class Search:
    """A study that is ready to run: what is searched, where it is written down, and where that is kept.

    Attributes:
        labels: what its trials are called, where it is not by their number.
        place: of its trials' folders, in the folder that the user knows.
    """

    config: Config
    space: Space
    folder: StudyFolder
    study: optuna.Study
    storage: Storage | None = None
    exports: Exports = THE_BEST
    labels: Mapping[int, str] = field(default_factory=dict)
    place: str = ""

    @property
    def book(self) -> FigureBook:
        """Figures of the models that it has met."""
        return FigureBook(self.space.study.figures, self.folder.path / FILE)

    def trials_left(self) -> int:
        """Trials still to be run, those that were broken off among them."""
        return max(0, self.space.study.num_trials - ended(self.study))

    def keep(self) -> None:
        """Brings what the study's folder holds to its storage. Raises StudyError."""
        if self.storage is None:
            return
        try:
            self.storage.put_study(self.folder.path)
        except OSError as exc:
            raise StudyError(
                f"{self.storage.uri} cannot be written: {exc}. Nothing is lost: it is in {self.folder.path}, "
                f"and --name {self.folder.name} --resume brings it there."
            ) from exc

    def is_kept(self, trial: int, epoch: int) -> bool:
        """Whether a trial's checkpoint of an epoch is there for another one to begin from."""
        name = kept_checkpoint(trial, epoch)
        return (self.folder.path / name).is_file() or bool(self.storage and self.storage.exists(name))

    def has_winner(self) -> bool:
        """Whether any trial has a value."""
        return bool(rank(read_rows(self.study), self.space.study.mode))


def prepare(
    config: Config,
    space: Space,
    folder: StudyFolder,
    console: Console,
    storage: Storage | None = None,
    accept: bool = False,
    first: Callable[[], Sequence[Mapping[str, Any]]] = list,
    exports: Exports = THE_BEST,
) -> Search:
    """Everything that is done once before the trials start.

    Args:
        accept: a resumed study goes on with another config, or with a narrower space.
        first: asked in a new study: parameters, by name, of the trials that come after the base config's.
        exports: what is handed out at the end.

    Raises:
        ConfigError: a model that the space reaches cannot be built, trained or exported.
        DataError: the data of the config, or of a branch of the space, cannot be used.
        StudyError: the study began with another config or a wider space, and nobody accepts that.
        TrainingError: weights to start from cannot be had, or do not fit.
    """
    changes = agree(folder, config, space, accept)
    book = FigureBook(space.study.figures, folder.path / FILE)
    preflight(config, space, book, console)
    if beyond := violated(config, space.study, book):
        console.print(
            f"warning: the base config violates {', '.join(beyond)}: it is trained, for gains to be measured "
            "against, and cannot win",
            style="yellow",
        )
    wanted, config = config, keep_restore(config, space, folder, console)
    classes = prepare_data(config, space, folder, console)
    prepare_weights(config, space, classes, console)
    study = open_study(
        folder,
        space.study,
        config.common.seed,
        lambda study: enqueue_first(study, config, space, first()),
        searched_together(space, config),
    )
    settle(study, changes.began.trainer.max_epochs)
    again = failed_alike(study)
    if changes or again:
        if changes:
            console.print(f"goes on with (then -> now):\n{changes}")
        if again:
            console.print(f"tries the {len(again)} trials again that failed alike")
        study = carry_over(folder, study, changes, wanted, space, storage, again)
    asked = space.study.finalists and space.study.finalists.model_dump()
    if study.user_attrs.get(FINALISTS) != asked:
        study.set_user_attr(FINALISTS, asked)
    write_environment(folder.path)
    search = Search(config, space, folder, study, storage, exports)
    search.keep()
    return search


@contextmanager
def removed_if_unused(folder: StudyFolder) -> Iterator[None]:
    """Takes a new study's folder away again where the preparation fails: the name stays free."""
    try:
        yield
    except BaseException:
        if not folder.journal.exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def run_trials(
    search: Search,
    plan: Plan,
    console: Console,
    autoscaler: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Halt:
    """Runs the trials that the plan counts, as many at once as the nodes hold.

    Returns:
        Why it ended before all of them had, if it did.

    Raises:
        KeyboardInterrupt: Ctrl-C came twice.
    """
    from ray import tune

    from otter_ray.tune.part import TrialSetup
    from otter_ray.tune.trial import run_trial

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
    )
    resources = tune.PlacementGroupFactory([setup.slot])
    trainable = tune.with_resources(partial(run_trial, setup), resources)
    # What the dashboard's list of actors shows: a slot runs many trials.
    trainable.__name__ = f"{config.name}/{search.folder.name}"
    return run_trainable(trainable, search, plan, console, autoscaler, limits)


def run_trainable(
    trainable: Any,
    search: Search,
    plan: Plan,
    console: Console,
    autoscaler: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Halt:
    """Runs a Tune trainable that takes and reports what `run_trial` does."""
    from ray import tune

    from otter_ray.tune.cluster import LiveLimit
    from otter_ray.tune.groups import GroupRemover
    from otter_ray.tune.halt import Halt, HaltTune, two_interrupts
    from otter_ray.tune.metrics import StudyMetrics
    from otter_ray.tune.mirror import JournalMirror
    from otter_ray.tune.progress import ProgressLines
    from otter_ray.tune.room import CheckpointSweeper
    from otter_ray.tune.scheduler import build_scheduler
    from otter_ray.tune.searcher import OptunaBridge

    config, space = search.config, search.space
    name = f"{config.name}/{search.folder.name}"
    halt = Halt(search.study, limits, lambda text: console.print(text, style="yellow"), search.place)
    halting = HaltTune(halt)
    book = search.book
    bridge = OptunaBridge(search.study, space, config, halt, LiveLimit(plan, autoscaler), book)
    keep = max(space.study.keep_best, search.exports.count)
    sweeper = CheckpointSweeper(search.study, search.folder, search.storage, space.study, keep, console)
    rows = read_rows(search.study)
    lines = ProgressLines(
        console,
        space.study,
        config.trainer.max_epochs,
        plan,
        rows,
        not violated(config, space.study, book),
        search.labels,
        search.place,
    )
    callbacks = [halting, lines, GroupRemover(), StudyMetrics(search.study, name), sweeper]
    if search.storage is not None:
        callbacks.append(JournalMirror(search.storage, search.folder.path, console))
    scratch = tempfile.mkdtemp(prefix="otter_ray_")
    try:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=bridge,
                scheduler=build_scheduler(space.study, bridge, config.trainer.max_epochs, search.is_kept),
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
                callbacks=callbacks,
                stop=halting,
                # A node that was announced to go does not count.
                failure_config=tune.FailureConfig(max_failures=space.study.retries),
            ),
        )
        with two_interrupts(halt):
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sweeper.finish(plan.slots)
    return halt
