"""The end of a study: its best trials are trained again over seeds, and the best mean wins.

A search looks at many noisy values and takes the highest: the winner's own value is too high (the winner's
curse), and a trial that was lucky once stands before a better one. Fresh seeds tell them apart.

The runs are trials of a study of their own, without a search, in `finals/` of the study's folder: they are
resumed, retried and kept as trials are.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState, create_trial

from otter_ray.config import Config
from otter_ray.config.scheduler import Scheduler
from otter_ray.config.space_check import SEED
from otter_ray.config.study import Sampler, StudyOptions
from otter_ray.report.finals import FINALIST, FINALS, runs_of, top_of
from otter_ray.report.rows import TrialRow, read_rows, write_parquet
from otter_ray.train.components import accepted, find_class
from otter_ray.tune.endings import failed_alike, settle
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.keys import VALUES

if TYPE_CHECKING:
    from otter_ray.tune.run import Search


def open_finals(search: Search) -> Search | None:
    """The runs of the best trials over seeds, those that are done and those that are to come, ready to run.

    Runs of trials that were among the best before the search went on stay as they are, and do not count.

    Returns:
        None where there are no finalists.
    """
    asked, mode = search.space.study.finalists, search.space.study.mode
    finalists = top_of(read_rows(search.study), mode, asked.top) if asked else []
    if asked is None or not finalists:
        return None
    folder = _Folder(search.folder.path / FINALS)
    folder.trial(0).parent.mkdir(parents=True, exist_ok=True)
    # Nothing is drawn and nobody is stopped.
    plain = {
        "sampler": Sampler(name="RandomSampler"),
        "scheduler": Scheduler(name="none"),
        "constraints": [],
        "finalists": None,
    }
    options = search.space.study.model_copy(update=plain)
    study = open_study(folder, options)
    settle(study, search.config.trainer.max_epochs)
    first = search.config.common.seed + 1
    seeds = range(first, first + asked.seeds)
    _want(study, search.config, [(row, seed) for row in finalists for seed in seeds])
    return _as_search(search, study, folder, options)


def finals_note(options: StudyOptions, max_epochs: int) -> str:
    """What the finalists cost beside the search; empty without any."""
    asked = options.finalists
    if asked is None:
        return ""
    top = min(asked.top, options.num_trials)
    runs = top * asked.seeds
    return (
        f"+ {runs} runs of finalists, {runs * max_epochs} epochs: "
        f"the best {top} of the trials over {asked.seeds} seeds each"
    )


def write_finals(finals: Search) -> None:
    """The runs as a table, `trials.parquet` in their folder, with the trial that each trains again."""
    whose = [trial.user_attrs[FINALIST] for trial in finals.study.get_trials(deepcopy=False)]
    write_parquet(read_rows(finals.study), finals.folder.path / "trials.parquet", finalist=whose)


class _Folder(StudyFolder):
    @property
    def name(self) -> str:
        """The study's, with what of it this is."""
        return f"{self.path.parent.name}/{FINALS}"


def _want(study: optuna.Study, config: Config, wanted: list[tuple[TrialRow, int]]) -> None:
    """Makes the runs that are to come those that are wanted and not there.

    Those that all failed alike are tried again, as a search's trials are.
    """
    keys = {(row.number, seed) for row, seed in wanted}
    again = failed_alike(study)
    there = {key: run for key, run in runs_of(study).items() if run.number not in again}
    for key, run in there.items():
        if key not in keys and not run.has_ended:
            study.tell(run.number, state=TrialState.PRUNED)
    for row, seed in wanted:
        if (row.number, seed) not in there:
            values = {**row.values, **_seeds(config.with_values(row.values), seed)}
            notes = {VALUES: values, FINALIST: row.number}
            # As one that was broken off before its first epoch: the bridge hands those out first.
            study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=notes))


def _seeds(config: Config, seed: int) -> dict[str, int]:
    """The run's seed, and that of the training set where it has one of its own: order and augmentation."""
    section = config.dataset.train_options
    own = accepted(find_class(section.name, "dataset", config.project), {"seed": seed})
    return {SEED: seed, **{f"dataset.train_options.options.{name}": seed for name in own}}


def _as_search(search: Search, study: optuna.Study, folder: StudyFolder, options: StudyOptions) -> Search:
    count = len(study.get_trials(deepcopy=False))
    kept = options.model_copy(update={"num_trials": count, "keep_best": count})
    storage = search.storage and search.storage.below(FINALS)
    restored = search.folder.path / "restored"
    if storage and restored.is_dir():
        # Other nodes fetch where their runs begin from beside the runs.
        shutil.copytree(restored, folder.path / restored.name, dirs_exist_ok=True)
    return replace(
        search,
        space=replace(search.space, study=kept),
        folder=folder,
        study=study,
        storage=storage,
        labels={run.number: f"{number} seed {seed}" for (number, seed), run in runs_of(study).items()},
        place=f"{FINALS}/",
    )
