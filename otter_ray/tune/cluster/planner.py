"""How many trials run at once, and on what: a pure function of what the machines offer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from otter_ray.config import Config
from otter_ray.config.schema import GPU_ACCELERATORS
from otter_ray.cpus import loader_workers
from otter_ray.errors import StudyError
from otter_ray.formatting import GIB
from otter_ray.space import SearchProblem, StudyOptions
from otter_ray.space.study_options import Resources
from otter_ray.tune.cluster.resources import (
    CUDA_CONTEXT,
    Node,
    ScaleUp,
    counted,
    gpus_of,
    listed,
    listed_scale_ups,
    slots_on,
    whole_cpus,
    workers_on,
    workers_on_gpu,
)

logger = logging.getLogger(__name__)

# Room for batches of another size, for another backbone in the space, and for fragments that the allocator
# cannot join.
GPU_HEADROOM = 1.1


@dataclass(frozen=True)
class Plan:
    """A study's use of the machines.

    Attributes:
        trials: that the study asks for.
        slots: worker slots, each of which runs one trial at a time, on `nodes` and `scale_ups` together.
        slots_now: slots that `nodes` alone hold.
        workers: of each trial.
        cpus: of each worker.
        gpus: of each worker.
        gpus_wanted: that the search space asks for, whether there are any or not.
        nodes: that are there.
        scale_ups: what may be added to them.
        scheduler: that stops trials early.
        epochs: of all trials, at most.
        epochs_expected: of all trials, by what the scheduler stops on paper.
        unit: what a trial is called here.
    """

    trials: int
    slots: int
    slots_now: int
    workers: int
    cpus: float
    gpus: float
    gpus_wanted: float
    nodes: tuple[Node, ...]
    scale_ups: tuple[ScaleUp, ...]
    scheduler: str
    epochs: int
    epochs_expected: float
    unit: str = "trial"

    def __str__(self) -> str:
        each = f"{counted(self.cpus, 'CPU')} and {counted(self.gpus, 'GPU')} each"
        if self.workers > 1:
            each = f"{self.workers} workers with {each}"
        there = Node(sum(node.cpus for node in self.nodes), gpus_of(self.nodes))
        lines = [
            f"{counted(self.trials, self.unit)} on {counted(self.slots, 'slot')} of {each} "
            f"({counted(len(self.nodes), 'node')}, {there.cpus:g} CPUs, {there.gpus:g} GPUs): "
            f"{counted(ceil(self.trials / self.slots), 'round')}, at most {counted(self.epochs, 'epoch')}"
        ]
        if round(self.epochs_expected) < self.epochs:
            lines[0] += f", about {self.epochs_expected:.0f} with {self.scheduler}"
        if self.slots_now < self.slots:
            lines.append(f"{self.slots_now} of the slots are there now; {listed_scale_ups(self.scale_ups)}")
        return "\n".join(lines)

    def slots_on(self, nodes: Iterable[Node], scale_ups: Sequence[ScaleUp] = ()) -> int:
        """Return how many trials of this plan's kind would run at once elsewhere."""
        return slots_on(self.workers, self.cpus, self.gpus, nodes, scale_ups)

    @property
    def gpu_note(self) -> str:
        """A warning if there are GPUs that are not used, or none where some are wanted; else empty."""
        gpus = gpus_of(self.nodes, self.scale_ups)
        if gpus and not self.gpus:
            return (
                f"{counted(gpus, 'GPU')} idle: resources.gpus_per_worker is 0 in the search space, or "
                "trainer.accelerator is cpu."
            )
        if not gpus and self.gpus_wanted:
            return (
                f"no node has a GPU, so resources.gpus_per_worker ({self.gpus_wanted:g}) is ignored and "
                "trials run on CPUs. If GPU nodes are still joining, start the study after they have."
            )
        return ""


def make_plan(
    options: StudyOptions,
    nodes: Sequence[Node],
    scale_ups: Sequence[ScaleUp] = (),
    *,
    accelerator: str = "auto",
    max_epochs: int = 1,
) -> Plan:
    """Fit as many trials as possible onto the nodes at once.

    A worker never spans two nodes, a trial of several workers may.

    Args:
        options: of the study.
        nodes: that are there.
        scale_ups: what may be added to `nodes`. It counts, because an autoscaler adds a node only when
            something waits for it.
        accelerator: the config's. A share of a GPU is asked for if the trials will use one: never with
            `cpu`, and with `auto` only if a node has one.
        max_epochs: of a trial.

    Raises:
        StudyError: not even with all that may be added can a single trial run.
    """
    wanted = options.resources
    uses_gpus = accelerator in GPU_ACCELERATORS or (accelerator == "auto" and gpus_of(nodes, scale_ups) > 0)
    share = 1.0 if wanted.gpus_per_worker is None else float(wanted.gpus_per_worker)
    cpus, gpus = wanted.cpus_per_worker, share if uses_gpus else 0.0
    workers = wanted.workers_per_trial
    slots = min(slots_on(workers, cpus, gpus, nodes, scale_ups), options.num_trials)
    if not slots:
        raise StudyError(_refusal(wanted, Node(cpus, gpus), nodes, scale_ups, accelerator))
    return Plan(
        trials=options.num_trials,
        slots=slots,
        slots_now=min(slots_on(workers, cpus, gpus, nodes), slots),
        workers=workers,
        cpus=cpus,
        gpus=gpus,
        gpus_wanted=0.0 if accelerator == "cpu" else float(wanted.gpus_per_worker or 0),
        nodes=tuple(nodes),
        scale_ups=tuple(group for group in scale_ups if workers_on(group.node, cpus, gpus)),
        scheduler=options.scheduler.name,
        epochs=options.num_trials * max_epochs,
        epochs_expected=options.scheduler.options.expected_epochs(options.num_trials, max_epochs),
    )


def plan_for(problem: SearchProblem, nodes: Sequence[Node], scale_ups: Sequence[ScaleUp]) -> Plan:
    """Make the plan of a search problem.

    Raises:
        StudyError: not even with all that may be added can a single trial run.
    """
    trainer = problem.config.trainer
    return make_plan(
        problem.options, nodes, scale_ups, accelerator=trainer.accelerator, max_epochs=trainer.max_epochs
    )


def log_plan(plan: Plan, config: Config, note: str = "") -> None:
    """Log the plan, a note on it, and what of the machines or of the config it leaves unused."""
    logger.info(f"plan: {plan}")
    if note:
        logger.info(f"      {note}")
    if plan.gpu_note:
        logger.warning(plan.gpu_note)
    if note := _loader_note(config, plan.cpus):
        logger.info(note)


def needed_share(peak: int, total: int) -> float:
    """Return the share of a GPU, in hundredths, that holds a trial of that peak with some headroom."""
    return min(1.0, ceil(100 * (peak * GPU_HEADROOM + CUDA_CONTEXT) / total) / 100)


def gpu_share_advice(trial: int, peak: int, total: int, plan: Plan) -> str:
    """Return what a trial's memory says about `gpus_per_worker`; empty if no more trials would run at once.

    Args:
        trial: its number.
        peak: bytes that it used at most.
        total: bytes that its GPU has.
        plan: that it runs by.
    """
    if not plan.gpus or plan.workers > 1:
        return ""
    share = needed_share(peak, total)
    by_gpu, by_cpu = workers_on_gpu(share), _workers_by_cpus(plan)
    if min(by_gpu, by_cpu) <= workers_on_gpu(plan.gpus):
        return ""
    return (
        f"trial {trial} used {peak / GIB:.1f} of {total / GIB:.0f} GiB: gpus_per_worker: {share:g} would run "
        f"{by_gpu} trials on a GPU (CPUs allow {by_cpu})"
    )


def _workers_by_cpus(plan: Plan) -> int:
    """Return how many trials the CPUs next to one GPU hold, on the node that has most of them."""
    nodes = [*plan.nodes, *(group.node for group in plan.scale_ups)]
    return max((workers_on(node, plan.cpus, 0) // int(node.gpus) for node in nodes if node.gpus), default=0)


def _loader_note(config: Config, cpus: float) -> str:
    """Return which loaders get fewer workers than the config says, on `cpus` CPUs; empty for none."""
    cuts = []
    for part in ("train_options", "valid_options"):
        wanted = int(getattr(config.dataloader, part).get("num_workers", 0))
        if (given := loader_workers(wanted, whole_cpus(cpus))) < wanted:
            cuts.append(f"dataloader.{part}.num_workers {wanted} becomes {given}")
    if not cuts:
        return ""
    return f"{', '.join(cuts)}: a worker has {counted(cpus, 'CPU')}, and one of them trains"


def _refusal(
    wanted: Resources, worker: Node, nodes: Sequence[Node], scale_ups: Sequence[ScaleUp], accelerator: str
) -> str:
    """Return why not even one trial can run, and what to change."""
    needs = f"needs {counted(worker.cpus, 'CPU')} and {counted(worker.gpus, 'GPU')}"
    if wanted.gpus_per_worker and not worker.gpus:
        reason = "trainer.accelerator is cpu" if accelerator == "cpu" else "no node has a GPU"
        needs += f" (gpus_per_worker is ignored, because {reason})"
    advice = "Lower resources.cpus_per_worker" + (" or gpus_per_worker" if worker.gpus else "")
    there = f"nodes: {listed(nodes)}"
    if scale_ups:
        there += f"; {listed_scale_ups(scale_ups)}"
    workers = wanted.workers_per_trial
    if not (fit := slots_on(1, worker.cpus, worker.gpus, nodes, scale_ups)):
        whose = "a trial" if workers == 1 else f"each of a trial's {workers} workers"
        return f"{whose} {needs}, and no node has them ({there}). {advice} in the search space."
    return (
        f"resources.workers_per_trial is {workers} and each worker {needs}, but only {fit} fit ({there}). "
        f"{advice} or workers_per_trial in the search space."
    )
