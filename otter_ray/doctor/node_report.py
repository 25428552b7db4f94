"""What one node of a cluster finds out about itself, and what that comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from otter_ray.doctor.finding import Finding, error, examine, ok, warning
from otter_ray.doctor.machine import COMPARED, disks, gpus, limits, packages, version_of
from otter_ray.doctor.needs import paths

if TYPE_CHECKING:
    from otter_ray.tune.cluster.node_checks import Answer

CHECK_SECONDS = 30.0


@dataclass(frozen=True)
class NodeReport:
    """What a node found out about itself. Plain data: it travels.

    Attributes:
        findings: What its checks found.
        gpus: GPUs that torch sees there.
        versions: Installed version of each package that nodes are compared by; None if it is missing.
    """

    findings: list[Finding]
    gpus: int
    versions: dict[str, str | None]


def examine_node(runs: Path | None, wanted: dict[str, str]) -> NodeReport:
    """Examine the machine that this runs on.

    Args:
        runs: Where studies go; None if that is no folder of this machine.
        wanted: Key -> folder or file that a config names.
    """
    import torch

    checks: list[Callable[[], Iterable[Finding]]] = [packages, gpus, limits, partial(disks, runs)]
    checks += [partial(paths, wanted)] if wanted else []
    findings = [finding for check in checks for finding in examine(check, CHECK_SECONDS)]
    return NodeReport(findings, torch.cuda.device_count(), {name: version_of(name) for name in COMPARED})


def node_findings(answer: Answer) -> Iterator[Finding]:
    """Yield each trouble of a node on its own, and everything that is well in one line."""
    if answer.trouble:
        yield error(
            f"{answer.node}: {answer.trouble}. Install otter_ray there as it is here: see "
            "docs/how-to/cluster.md."
        )
        return
    report: NodeReport = answer.value
    offered = int(answer.entry["Resources"].get("GPU", 0))
    if offered != report.gpus:
        yield error(
            f"{answer.node}: Ray offers {offered} GPUs, but torch sees {report.gpus}. Start Ray there with "
            f"--num-gpus={report.gpus}, or fix torch or the driver."
        )
    unlike = [
        f"{name} {version} (here {version_of(name)})"
        for name, version in report.versions.items()
        if version != version_of(name)
    ]
    if unlike:
        yield warning(
            f"{answer.node}: its versions differ: {', '.join(unlike)}. Install constraints.txt on all nodes."
        )
    for finding in report.findings:
        if finding.level != "ok":
            yield Finding(finding.level, f"{answer.node}: {finding.text}")
    yield ok(
        f"{answer.node}: " + "; ".join(finding.text for finding in report.findings if finding.level == "ok")
    )
