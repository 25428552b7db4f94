"""Train a study's best trials again over several seeds. The best mean wins.

A search compares many noisy values and takes the highest, so the winner's own value is too high (the
winner's curse), and a trial that was lucky once outranks a better one. Fresh seeds distinguish the two.

The runs are trials of a study of their own, without a search, in the folder `finals/` of the study's folder.
They are resumed, retried and stored as trials are.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from otter_ray.config import Config
from otter_ray.isolation import call
from otter_ray.space.compatibility import SEED
from otter_ray.space.scheduler_options import Scheduler
from otter_ray.space.study_options import Sampler, StudyOptions
from otter_ray.study.finalists import runs_of, top_of
from otter_ray.study.layout import FINALS, RESTORED, TRIALS_TABLE, StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.outcomes import common_failure, finalize_interrupted
from otter_ray.study.schema import FINALIST, VALUES
from otter_ray.study.trials import TrialRecord, read_records, write_parquet
from otter_ray.train.registry import accepted, find_class
from otter_ray.tune.context import StudyContext


def open_finals(context: StudyContext) -> StudyContext | None:
    """Return the finalists' runs, finished and future ones, as a study that is ready to run.

    Runs of trials that were among the best before the search was resumed stay as they are, but do not count.

    Args:
        context: of the study.

    Returns:
        The context of the runs; None without finalists.
    """
    asked, direction = context.problem.options.finalists, context.problem.options.direction
    finalists = top_of(read_records(context.study), direction, asked.top) if asked else []
    if asked is None or not finalists:
        return None
    folder = context.folder.finals
    folder.trial(0).parent.mkdir(parents=True, exist_ok=True)
    # Nothing is sampled and no run is stopped early.
    plain = {
        "sampler": Sampler(name="RandomSampler"),
        "scheduler": Scheduler(name="none"),
        "constraints": [],
        "finalists": None,
    }
    options = context.problem.options.model_copy(update=plain)
    study = open_study(folder, options, RandomSampler(0))
    finalize_interrupted(study, context.config.trainer.max_epochs)
    first = context.config.common.seed + 1
    seeds = range(first, first + asked.seeds)
    _queue_runs(study, context.config, [(row, seed) for row in finalists for seed in seeds])
    return _finals_context(context, study, folder, options)


def finals_note(options: StudyOptions, max_epochs: int) -> str:
    """Return what the finalists cost in addition to the search; empty without finalists.

    Args:
        options: of the study.
        max_epochs: of a trial.
    """
    asked = options.finalists
    if asked is None:
        return ""
    top = min(asked.top, options.num_trials)
    runs = top * asked.seeds
    return (
        f"+ {runs} runs of finalists, {runs * max_epochs} epochs: "
        f"the best {top} of the trials over {asked.seeds} seeds each"
    )


def write_finals(finals: StudyContext) -> None:
    """Write the runs to `trials.parquet` in their folder, each with the trial that it trains again.

    Args:
        finals: the finalists' runs.
    """
    whose = [trial.user_attrs[FINALIST] for trial in finals.study.get_trials(deepcopy=False)]
    write_parquet(
        read_records(finals.study), finals.folder.path / TRIALS_TABLE, finals.config, finalist=whose
    )


def _queue_runs(study: optuna.Study, config: Config, wanted: list[tuple[TrialRecord, int]]) -> None:
    """Queue the wanted runs that do not exist yet, and end those that are no longer wanted.

    Runs that all failed in the same way are tried again, as a search's trials are.
    """
    keys = {(row.number, seed) for row, seed in wanted}
    again = common_failure(study)
    there = {key: run for key, run in runs_of(study).items() if run.number not in again}
    for key, run in there.items():
        if key not in keys and not run.has_ended:
            study.tell(run.number, state=TrialState.PRUNED)
    for row, seed in wanted:
        if (row.number, seed) not in there:
            values = {**row.values, **call(_seeds, config.with_values(row.values), seed)}
            notes = {VALUES: values, FINALIST: row.number}
            # Like a trial that was interrupted before its first epoch: the searcher hands those out first.
            study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=notes))


def _seeds(config: Config, seed: int) -> dict[str, int]:
    """Return the seeds: the run's, and the training set's if it has one for its order and augmentation."""
    if not config.has("dataset"):
        return {SEED: seed}
    section = config.dataset.train_options
    own = accepted(find_class(section.name, "dataset", config.project), {"seed": seed})
    return {SEED: seed, **{f"dataset.train_options.options.{name}": seed for name in own}}


def _finals_context(
    context: StudyContext, study: optuna.Study, folder: StudyFolder, options: StudyOptions
) -> StudyContext:
    count = len(study.get_trials(deepcopy=False))
    kept = options.model_copy(update={"num_trials": count, "keep_best": count})
    storage = context.storage and context.storage.below(FINALS)
    restored = context.folder.path / RESTORED
    if storage and restored.is_dir():
        # Other nodes fetch the checkpoint that their runs start from together with the runs.
        shutil.copytree(restored, folder.path / restored.name, dirs_exist_ok=True)
    return replace(
        context,
        problem=replace(context.problem, space=replace(context.space, study=kept)),
        folder=folder,
        study=study,
        storage=storage,
        labels={run.number: f"{number} seed {seed}" for (number, seed), run in runs_of(study).items()},
        place=f"{FINALS}/",
    )
