"""Everything that is done once before a study's trials start, on this machine and without Ray Tune."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otter_ray.isolation import call
from otter_ray.study.diff import check_or_record
from otter_ray.study.initial_trials import InitialTrials
from otter_ray.study.layout import StudyFolder
from otter_ray.study.leftovers import remove_leftovers
from otter_ray.study.naming import group_name
from otter_ray.study.opening import create_folder, open_folder, open_or_create_in_storage, refuse_links_out
from otter_ray.study.schema import FINALISTS
from otter_ray.study.storage import Storage, storage_of
from otter_ray.tune.cluster.autoscaler import autoscaler_config, cluster_capacity
from otter_ray.tune.cluster.job_submission import job_address
from otter_ray.tune.cluster.node_checks import check_nodes
from otter_ray.tune.cluster.nodes import local_node
from otter_ray.tune.cluster.planner import plan_for
from otter_ray.tune.cluster.resources import Node, ScaleUp, gpus_of
from otter_ray.tune.context import StudyContext
from otter_ray.tune.preflight.calls import check_problem, share_run_loggers, try_problem
from otter_ray.tune.request import THE_BEST, StudyRequest, is_known_project
from otter_ray.tune.resume import begin_or_resume
from otter_ray.tune.samplers.factory import build_sampler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machines:
    """The machines that a study may use.

    Attributes:
        nodes: that exist.
        scale_ups: that an autoscaler may add.
        autoscaler: its configuration; None without one.
    """

    nodes: list[Node]
    scale_ups: list[ScaleUp]
    autoscaler: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, address: str | None) -> Machines:
        """Return the nodes of a cluster, or this machine.

        Args:
            address: of the Ray that this process is connected to; None for one of this machine's own.
        """
        if address is None:
            return cls([call(local_node)], [])
        autoscaler = autoscaler_config()
        return cls(*cluster_capacity(autoscaler), autoscaler)


def check(request: StudyRequest, machines: Machines) -> StudyRequest:
    """Check everything that can be known to be wrong before a study has a folder.

    Args:
        request: what is asked for.
        machines: that the study may use.

    Returns:
        The request, with the problem as it is searched.

    Raises:
        ConfigError: the config or the space cannot be used.
        StudyError: no trial fits the machines.
    """
    gpus = gpus_of(machines.nodes, machines.scale_ups)
    problem = call(check_problem, request.problem, gpus, not request.resume)
    if request.problem.grid_note:
        logger.info(request.problem.grid_note)
    plan_for(problem, machines.nodes, machines.scale_ups)
    return replace(request, problem=problem)


def open_study_folder(request: StudyRequest) -> tuple[StudyFolder, Storage | None]:
    """Create the study's folder, or open it to resume the study.

    Args:
        request: what is asked for.

    Returns:
        The folder, and the storage that keeps a copy of it.

    Raises:
        StudyError: the name is taken, there is no such study, or it leads out of its folder.
    """
    folder, storage = _open_study_folder(request)
    if request.resume:
        refuse_links_out(folder)
    return folder, storage


def _open_study_folder(request: StudyRequest) -> tuple[StudyFolder, Storage | None]:
    runs, config, name = request.runs, request.problem.config.name, request.name
    if request.storage is not None:
        return open_or_create_in_storage(runs, config, name, request.storage, request.resume)
    if not request.resume:
        return create_folder(runs, config, name), None
    folder = open_folder(runs, config, name)
    storage = storage_of(folder)
    if storage is not None:
        refuse_links_out(folder)  # a download would follow them
        logger.info(f"the study's copy is in {storage.uri}")
        storage.get_study(folder.path)
    return folder, storage


def prepare(
    request: StudyRequest,
    folder: StudyFolder,
    storage: Storage | None,
    initial: InitialTrials,
    machines: Machines,
) -> StudyContext:
    """Do everything that is done once before the trials start. A new study's folder goes if this fails.

    Args:
        request: what is asked for.
        folder: of the study.
        storage: keeps a copy of it.
        initial: the trials that a new study begins with.
        machines: that the study uses.

    Raises:
        ConfigError: a model that the space reaches cannot be built, trained or exported.
        DataError: the data of the config, or of a branch of the space, cannot be used.
        StudyError: a node cannot work in the folder, or the study began with another config or a wider
            space and that was not accepted.
        TrainingError: weights to start from are not available, or do not fit.
    """
    if machines.scale_ups and storage is None:
        logger.warning(
            f"nodes that the autoscaler adds must also see {folder.path}. If they do not share this folder "
            "(NFS), use --storage s3://BUCKET/PATH."
        )
    with nullcontext() if request.resume else _removed_if_unused(folder):
        if request.resume:
            remove_leftovers(folder, storage)
        if request.address is not None:
            check_nodes(folder.path, storage)
        context = prepare_study(request, folder, storage, initial)
    logger.info(f"study: {folder.path}")
    return context


def prepare_study(
    request: StudyRequest, folder: StudyFolder, storage: Storage | None, initial: InitialTrials
) -> StudyContext:
    """Prepare a study in its folder. Arguments and errors are those of `prepare`."""
    options = request.problem.options
    changes = check_or_record(folder, request.problem, request.accept_changes)
    problem = call(try_problem, request.problem, folder)
    sampler = build_sampler(problem)
    study = begin_or_resume(request.problem, sampler, folder, storage, initial, changes)
    finalists = options.finalists and options.finalists.model_dump()
    if study.user_attrs.get(FINALISTS) != finalists:
        study.set_user_attr(FINALISTS, finalists)
    context = StudyContext(
        problem, folder, study, storage, request.exports, resume_command=resume_command(request, folder)
    )
    context.keep()
    return context


def resume_command(request: StudyRequest, folder: StudyFolder) -> str:
    """Return the command that continues a study: it needs what the study's folder does not say.

    Args:
        request: what the study was started with.
        folder: of the study.
    """
    here, config = Path.cwd(), request.problem.config
    place = folder.path.relative_to(here) if folder.path.is_relative_to(here) else folder.path
    words = ["python", "-m", "otter_ray.tune", "--resume", str(place)]
    if not request.is_connected and request.address not in (None, job_address()):
        words += ["--address", str(request.address)]
    if request.exports != THE_BEST:
        words += ["--export", str(request.exports)]
    if not is_known_project(request.problem.code, folder.config_name):
        words += ["--set", f"project={config.project}"]
    return shlex.join(words)


def prepare_run_loggers(context: StudyContext) -> None:
    """Make what the study's runs share in their loggers, before several runs do it at once.

    Args:
        context: of the study, or of its finalists.

    Raises:
        ConfigError: a server cannot be reached.
    """
    if context.config.logger_sections():
        call(share_run_loggers, context.config, group_name(context.config.name, context.folder.path))


@contextmanager
def _removed_if_unused(folder: StudyFolder) -> Iterator[None]:
    """Remove the folder of a study that this command has created, if the preparation fails.

    Its name stays free then. A folder of another command is never removed, whatever it lacks: a study whose
    journal was lost looks like a new one.

    Args:
        folder: made by this command (`create_folder`), and empty then.
    """
    try:
        yield
    except BaseException:
        if not folder.journal.exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
