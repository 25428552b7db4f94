"""A study, from the plan to the proven ONNX file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from rich.console import Console

from otter_ray.cli import tell
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
from otter_ray.tune.preflight import preflight
from otter_ray.tune.prepare import keep_restore, prepare_data, prepare_weights
from otter_ray.tune.storage import Storage, kept_checkpoint


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
        try:
            return (self.folder.path / name).is_file() or bool(self.storage and self.storage.exists(name))
        except StudyError:  # of a storage that does not answer just now
            return False

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
        tell(
            console,
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
