"""Resume a study: make what its folder holds a study that continues.

Trials that were interrupted get their end, or stay RUNNING in the journal. The searcher hands those out
again, under their numbers, before it draws new ones (`tune/search/searcher.py`). Trials that all failed in
the same way run once more. If the config or the space has changed, the study migrates (`study/migration.py`).
"""

from __future__ import annotations

import logging

import optuna
from optuna.samplers import BaseSampler

from otter_ray.space import SearchProblem
from otter_ray.study.diff import Changes
from otter_ray.study.initial_trials import InitialTrials
from otter_ray.study.layout import StudyFolder
from otter_ray.study.migration import migrate
from otter_ray.study.opening import open_study
from otter_ray.study.outcomes import common_failure, finalize_interrupted
from otter_ray.study.storage import Storage

logger = logging.getLogger(__name__)


def begin_or_resume(
    problem: SearchProblem,
    sampler: BaseSampler,
    folder: StudyFolder,
    storage: Storage | None,
    initial: InitialTrials,
    changes: Changes,
) -> optuna.Study:
    """Open the study in a folder, ready for its next trial. A new study has nothing to resume.

    Args:
        problem: what the study searches from now on.
        sampler: draws the trials.
        folder: of the study.
        storage: keeps a copy of the folder.
        initial: the trials that a new study begins with.
        changes: in the config and the space since the study began.

    Raises:
        StudyError: the journal cannot be read.
    """
    study = open_study(folder, problem.options, sampler, initial.enqueue)
    finalize_interrupted(study, changes.began.trainer.max_epochs)
    again = common_failure(study)
    if changes:
        logger.info(f"continues with these changes (old -> new):\n{changes}")
    if again:
        logger.info(f"runs the {len(again)} trials again that all failed in the same way")
    if changes or again:
        study = migrate(folder, study, changes, problem, storage, again)
    return study
