"""A study's folder, and the Optuna journal in it that is the truth about its trials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from difflib import unified_diff
from pathlib import Path

import optuna
import yaml
from filelock import FileLock, Timeout

from otter_ray.config import Config, Space, StudyOptions, to_yaml
from otter_ray.errors import StudyError
from otter_ray.report.rows import open_journal
from otter_ray.tune.sampler import build_sampler
from otter_ray.tune.storage import JOURNAL, Storage


@dataclass(frozen=True)
class StudyFolder:
    """`runs/CONFIG/STUDY/`: where each thing of a study lies."""

    path: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """The Optuna journal."""
        return self.path / JOURNAL

    def trial(self, number: int) -> Path:
        """The folder of one trial."""
        return self.path / "trials" / f"{number:04d}"


def new_name() -> str:
    """A study's name where none is given: the date and time."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def create_folder(runs: Path, config: str, name: str | None) -> StudyFolder:
    """Makes the folder of a new study; its name is the date and time by default.

    Raises:
        StudyError: the name exists, or nothing can be written there.
    """
    name = name or new_name()
    folder = StudyFolder((runs / config / name).absolute())
    try:
        folder.path.mkdir(parents=True)
        (folder.path / "trials").mkdir()
    except FileExistsError as exc:
        if not folder.path.is_dir():
            raise StudyError(f"{folder.path} cannot be made: {exc}. Give another --runs.") from exc
        raise StudyError(
            f"study {name!r} exists in {folder.path.parent}. Go on from where it was with --resume, "
            f"or choose another --name."
        ) from exc
    except OSError as exc:
        raise StudyError(f"{folder.path} cannot be written: {exc}. Give another --runs.") from exc
    return folder


def open_folder(runs: Path, config: str, name: str | None) -> StudyFolder:
    """The folder of the study to go on with; the newest by default.

    Raises:
        StudyError: there is no such study; lists the ones there are.
    """
    studies = sorted((runs / config).glob("*/study.journal"), key=lambda path: path.stat().st_mtime)
    names = [path.parent.name for path in studies]
    if not names or (name is not None and name not in names):
        there = f"There are: {', '.join(names)}." if names else "There is none yet."
        raise StudyError(f"no study {name or ''} of {config} to resume in {runs / config}. {there}")
    return StudyFolder((runs / config / (name or names[-1])).absolute())


def kept_folder(
    runs: Path, config: str, name: str | None, place: str, resume: bool
) -> tuple[StudyFolder, Storage]:
    """The folder of a study that is kept elsewhere, too, and that place; to be resumed it need only be there.

    Raises:
        StudyError: the new name is taken, there is no such study to resume, or it went on in both places.
    """
    if resume and name is None:
        raise StudyError("--resume with --storage wants the study's --name.")
    name = name or new_name()
    storage = Storage.of(place, config, name)
    if resume:
        folder = StudyFolder((runs / config / name).absolute())
        storage.get_study(folder.path)
        return folder, storage
    if storage.exists(JOURNAL):
        raise StudyError(f"study {name!r} exists at {storage.uri}. Go on from where it was with --resume.")
    return create_folder(runs, config, name), storage


@contextmanager
def sole_driver(folder: StudyFolder) -> Iterator[None]:
    """Holds the study for this process.

    Raises:
        StudyError: another process runs it.
    """
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise StudyError(
            f"study {folder.name} is running in another process. Wait for it, or end it."
        ) from exc
    try:
        yield
    finally:
        lock.release()


def keep_or_compare(folder: StudyFolder, config: Config, space: Space) -> None:
    """Keeps config and space in a new study's folder.

    Raises:
        StudyError: a resumed study began with others; its curves would not be comparable.
    """
    texts = {"config.yaml": to_yaml(config), "space.yaml": yaml.safe_dump(space.to_dict(), sort_keys=False)}
    for name, text in texts.items():
        path = folder.path / name
        if not path.exists():
            path.write_text(text)
        elif path.read_text() != text:
            changed = unified_diff(path.read_text().splitlines(), text.splitlines(), "then", "now", "", "", 0)
            raise StudyError(
                f"study {folder.name} began with another {name.removesuffix('.yaml')}:\n"
                + "\n".join(changed)
                + "\nUndo the change, or start a new study with another --name."
            )


def open_study(folder: StudyFolder, options: StudyOptions, seed: int = 0) -> optuna.Study:
    """The Optuna study in the folder's journal, made at first use."""
    storage = open_journal(folder.journal)
    # A folder may have been renamed since: the journal knows its only study's name.
    names = optuna.get_all_study_names(storage)
    study = optuna.create_study(
        storage=storage,
        study_name=names[0] if names else folder.name,
        direction="maximize" if options.mode == "max" else "minimize",
        load_if_exists=True,
    )
    study.sampler = build_sampler(options, seed, len(study.get_trials(deepcopy=False)))
    study.set_user_attr("metric", options.metric)
    return study
