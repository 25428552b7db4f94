"""A study as an object: what `otter-ray tune` runs, for programs, tests and notebooks.

The command line makes a `Study` of its options and goes the same way. Importing this module imports neither
torch, ray nor optuna.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from otter_ray.cli import INTERRUPTED
from otter_ray.config import Config
from otter_ray.config.given import config_of_objects, dotted_keys, given_to, giving
from otter_ray.config.user_paths import user_path, user_place
from otter_ray.errors import StudyError
from otter_ray.files import NAME_RULE, is_name
from otter_ray.formatting import short_repr
from otter_ray.host_program import importing_from_here, left_as_found, same_random_numbers
from otter_ray.isolation import call
from otter_ray.space import SearchProblem, Space, entries_of, space_of
from otter_ray.tune.cluster.job_submission import code_of, job_address, persistent_path
from otter_ray.tune.request import (
    ExportSelection,
    StopCriteria,
    StudyRequest,
    check_name,
    find_study,
    load_problem,
    load_study,
    parse_duration,
    with_enqueued,
)
from otter_ray.user_folders import use_sound_folders
from otter_ray.warn import warnings_for_users

if TYPE_CHECKING:
    from otter_ray.tune.cluster.session import RaySession
    from otter_ray.tune.display.reporter import ProgressReporter
    from otter_ray.tune.pipeline import Ending
    from otter_ray.tune.selection.study_result import StudyResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """A search over a config, and the export of its best model, as `otter-ray tune` runs them.

    Every argument is the option of that name (`otter-ray tune --help`), and errors name them so. Nothing is
    read before `run`.

        result = Study("demo", trials=8, set={"trainer.max_epochs": 2}).run()
        print(result.best.value, result.best.onnx)

    If this process is connected to a Ray already (`ray.init`), the study runs on that Ray and leaves it
    running. Otherwise it starts one on this machine for as long as its trials run, or uses the one at
    `address`.

    Attributes:
        config: Name (in configs/) or path of the config, or the config itself. With `resume` it can also be a
            study's folder.
        space: Name (in search_spaces/) or path of the search space, or the space itself; None for the
            config's name.
        trials: Number of trials to run in all; None for the search space's.
        name: Of the study; None for the date and time, or on `resume` for the newest study.
        runs: Folder for studies. Each one gets the folder RUNS/CONFIG/STUDY.
        resume: Whether to continue a study that exists already.
        accept_changes: Whether to resume it although the config changed or the space became narrower.
        warm_start: Name or folder of another study, whose best trials this one begins with.
        set: Changes of the config: dotted keys and their values, or a list of KEY=VALUE.
        set_space: Changes of the search space, in the same way.
        enqueue: Trials that a new study runs right after the base config, each a mapping from searched keys
            to values: `[{"lr": 0.001}]`. They come after those that the search space enqueues.
        storage: Where to keep a copy: `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, or a path.
        address: Of a running Ray, or `auto`.
        time_budget: When to end the search: seconds, a timedelta, or a text such as `1h30m`.
        max_epochs_total: After how many epochs to end it, counted over all trials.
        patience: After how many trials in a row without a better value to end it.
        export: Trials whose models to export: `best`, `pareto`, or `top3` and so on.
        quiet: Whether to print warnings, errors and the result only.
    """

    config: Config | str | os.PathLike[str]
    space: Space | str | os.PathLike[str] | None = None
    _: KW_ONLY
    trials: int | None = None
    name: str | None = None
    runs: str | os.PathLike[str] = "runs"
    resume: bool = False
    accept_changes: bool = False
    warm_start: str | os.PathLike[str] | None = None
    set: Mapping[str, Any] | Sequence[str] = field(default_factory=dict)
    set_space: Mapping[str, Any] | Sequence[str] = field(default_factory=dict)
    enqueue: Sequence[Mapping[str, Any]] = ()
    storage: str | os.PathLike[str] | None = None
    address: str | None = None
    time_budget: str | float | timedelta | None = None
    max_epochs_total: int | None = None
    patience: int | None = None
    export: str = "best"
    quiet: bool = False
    # What `of` was given, by the names that the config has for it.
    _objects: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        model: Any,
        data: Any = None,
        *,
        metric: str,
        max_epochs: int,
        space: Mapping[str, Any],
        mode: str = "max",
        trainer: Mapping[str, Any] | None = None,
        trials: int = 32,
        **options: Any,
    ) -> Self:
        """Return a study of a LightningModule's class, without a file.

            Study.of(LitClassifier, MyData(root), metric="val_acc", max_epochs=20,
                     space={"lr": FloatDistribution(1e-4, 1e-2, log=True), "width": [16, 32, 64]})

        A class of a script, a notebook or a test travels to the workers. The study's folder holds its name
        only: a program that has the class can resume the study.

        Args:
            model: The class; or a `partial` of it, with arguments by keyword.
            data: A LightningDataModule, or its class or a `partial` of that, if its arguments are searched.
                Or loaders: (train, valid) or (train, valid, test). None if the module has its own.
            metric: What the module logs in its validation.
            max_epochs: Epochs of a trial that is not stopped early.
            space: What is searched: names of the module's arguments, or dotted keys (`data.init_args.noise`),
                each with a list of choices, a distribution of Optuna, or an entry as in a file.
            mode: Whether larger or smaller values are better: max or min.
            trainer: More arguments of Lightning's Trainer.
            trials: Number of trials.
            **options: More of the arguments of `Study`.

        Raises:
            ConfigError: What is given does not fit together.
        """
        chosen = {"max_epochs": max_epochs, **(trainer or {})}
        options_of_study = {"metric": metric, "mode": mode, "num_trials": trials}
        searched = space_of(dotted_keys(model, entries_of(space)), options_of_study)
        starts = {key: each.start for each in searched.parameters for key in each.keys}
        config, objects = config_of_objects(model, data, metric, chosen, starts)
        return cls(config, searched, _objects=objects, **options)

    def run(self) -> StudyResult:
        """Run the study, or what is left of it, and return what it came to.

        It prints what the command prints. Start it in your project's folder, as the command: trials import
        the project from there, or as an installed package.

        After Ctrl-C the running trials finish their epoch, the best model so far is exported, and the result
        is marked `is_interrupted`. A second Ctrl-C, and one outside the search, raises KeyboardInterrupt.
        `resume` continues the study after either.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice, or outside the search.
            OtterError: The study cannot start, or something other than its trials was at fault.
        """
        from otter_ray.tune.display.factory import choose_reporter

        reporter = choose_reporter(quiet=self.quiet)
        with left_as_found(), warnings_for_users(), reporter.command(), importing_from_here(), self.given():
            use_sound_folders()
            request = self.request()
            ending = run_request(request, reporter)
        from otter_ray.tune.selection.study_result import StudyResult

        is_interrupted = ending.code == INTERRUPTED
        return StudyResult(ending.folder, request.problem.code, is_interrupted, self._objects)

    def given(self) -> AbstractContextManager[None]:
        """Let configs name the objects that `of` was given, and no others, within a block."""
        return giving(self._objects)

    def request(self) -> StudyRequest:
        """Read the config and the search space, and check whatever can be checked without torch and ray.

        Raises:
            ConfigError: Every fault in either of them, or between the two.
            StudyError: An argument cannot be meant, or there is no such study.
        """
        if self.name is not None:
            check_name(self.name)
        runs = user_path(Path(_text(self.runs, "--runs")), "--runs")
        problem, name, runs = self._problem(runs)
        if self.enqueue and self.resume:
            raise StudyError("enqueue: a study that is resumed has begun already. Leave one of them out.")
        if self.enqueue:
            problem = with_enqueued(problem, _listed(self.enqueue))
        _check_count("--trials", self.trials)
        _check_count("--max-epochs-total", self.max_epochs_total)
        _check_count("--patience", self.patience)
        if self.trials is not None:
            problem = problem.with_trials(self.trials)
        seconds = None if self.time_budget is None else parse_duration(self.time_budget)
        address, is_connected = self._ray()
        return StudyRequest(
            problem=problem,
            runs=persistent_path(runs),
            name=name,
            resume=self.resume,
            accept_changes=self.accept_changes,
            warm_start=_place(self.warm_start, "--warm-start"),
            storage=_place(self.storage, "--storage"),
            address=address,
            is_connected=is_connected,
            criteria=StopCriteria(seconds, self.max_epochs_total, self.patience),
            exports=ExportSelection.of(self.export, problem.options),
        )

    def _problem(self, runs: Path) -> tuple[SearchProblem, str | None, Path]:
        """Return what is searched, the study's name if it is known, and the folder of all studies."""
        config = self.config if isinstance(self.config, Config) else _text(self.config, "config")
        if isinstance(config, Config) and not is_name(config.name):
            raise StudyError(
                f"the config's name is {config.name!r}, which cannot be that of a folder. Give it one: "
                f"Config.from_dict(config.to_dict(), name). {NAME_RULE}"
            )
        space = self.space
        if not (space is None or isinstance(space, Space)):
            space = _text(space, "--space")
        sets, space_sets = _sets(self.set, "set"), _sets(self.set_space, "set_space")
        folder = (
            find_study(persistent_path(Path(config))) if self.resume and isinstance(config, str) else None
        )
        if folder is None:
            return load_problem(config, space, sets, space_sets), self.name, runs
        if self.name not in (None, folder.name):
            raise StudyError(f"--name: {self.name!r} is not the study in {folder.path}. Leave --name out.")
        return load_study(folder, space, sets, space_sets), folder.name, folder.path.parent.parent

    def _ray(self) -> tuple[str | None, bool]:
        """Return the address of the Ray to use, if one runs, and whether this process is connected to it.

        Raises:
            StudyError: This process is connected to another Ray than it is to use.
        """
        from otter_ray.tune.cluster.session import connected_address

        wanted = _text(self.address, "--address") if self.address else job_address()
        connected = connected_address()
        if connected is None:
            return wanted, False
        if wanted not in (None, "auto", connected):
            raise StudyError(
                f"--address {wanted}: this process is connected to the Ray at {connected}. Leave the address "
                "out to use that one, or call ray.shutdown() before."
            )
        return connected, True


def _as_before(has_objects: bool) -> AbstractContextManager[None]:
    """Keep the random numbers of a process in which models are built that no other process knows."""
    return same_random_numbers() if has_objects else nullcontext()


def _check_count(option: str, number: int | None) -> None:
    if number is not None and not (type(number) is int and number >= 1):
        raise StudyError(f"{option}: {number!r} is not a whole number >= 1. Give one, or leave it out.")


def _place(given: str | os.PathLike[str] | None, option: str) -> str | None:
    """Return a path or a URI as text, with `~` replaced; None if it is absent or empty."""
    return user_place(_text(given, option), option) if given else None


def _text(given: Any, option: str) -> str:
    """Return a name, a path or an address as text."""
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str):
        raise StudyError(f"{option}: {short_repr(given)} is not a text or a path. Give one of them.")
    return text


def _listed(trials: Any) -> Sequence[Mapping[str, Any]]:
    """Return the trials to enqueue if they are a list, which can be read twice."""
    if not isinstance(trials, Sequence) or isinstance(trials, str | bytes):
        raise StudyError(f'enqueue: {short_repr(trials)} is not a list of mappings. Give [{{"lr": 0.001}}].')
    return trials


def _sets(given: Any, name: str) -> Mapping[str, Any] | Sequence[str]:
    """Return changes if they are what the argument of that name can be; None is none."""
    if given is None or isinstance(given, Mapping):
        return given or {}
    is_list = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    if not (is_list and all(isinstance(text, str) for text in given)):
        raise StudyError(
            f"{name}: {short_repr(given)} is neither a mapping nor a list of KEY=VALUE. Give "
            '{"trainer.max_epochs": 2} or ["trainer.max_epochs=2"].'
        )
    return [*given]


def run_request(request: StudyRequest, reporter: ProgressReporter) -> Ending:
    """Run a study that is asked for.

    Args:
        request: What is asked for.
        reporter: Gets every event.

    Returns:
        Where the study is, and how it ended.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed twice.
        OtterError: The request cannot be met, or something ended the search.
    """
    with _session(request) as session:
        name, starts = request.problem.config.name, request.needs_ray_at_once and not request.is_connected
        logger.info(f"{name}: {'starting Ray and ' * starts}loading torch")
        if request.needs_ray_at_once:
            session.start()
        from otter_ray.tune.pipeline import launch

        return launch(request, session, reporter)


def dry_run_request(request: StudyRequest, samples: int, reporter: ProgressReporter) -> None:
    """Check everything that `run_request` would check, and start nothing.

    Args:
        request: What is asked for.
        samples: The number of configs to sample.
        reporter: Shows the configs.

    Raises:
        OtterError: The study could not start.
    """
    with _session(request) as session:
        from otter_ray.tune.dry_run import dry_run

        dry_run(request, session, samples, reporter)


@contextmanager
def _session(request: StudyRequest) -> Iterator[RaySession]:
    """Make the Ray of a study, which is not started, and what loads torch beside it."""
    from otter_ray.tune.cluster.memory import check_memory
    from otter_ray.tune.cluster.session import RaySession
    from otter_ray.tune.worker.forks import SLOWER, ForkServer, worker_imports

    project, address = request.problem.config.project, request.address
    if address is None:
        check_memory()
    has_objects = bool(given_to(request.problem.config))
    with ForkServer(worker_imports(project), answers=not has_objects) as forks, _as_before(has_objects):
        if request.is_connected:
            # What its workers are was settled when it was started.
            logger.info(f"the Ray at {address} is used as it is: {SLOWER}")
            session = RaySession(address, is_connected=True)
        else:
            code = [] if address is None else call(code_of, project)
            session = RaySession(address, code, forks.py_executable(elsewhere=address is not None))
        with session:
            yield session
