"""A study as plain lines: one for each epoch of each trial."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from otter_ray.formatting import clock
from otter_ray.tune.display.reporter import ProgressReporter, describe_failure

if TYPE_CHECKING:
    from otter_ray.tune.display.study_state import StudyState

logger = logging.getLogger(__name__)


class PlainReporter(ProgressReporter):
    """Log a line for each epoch of each trial, with the best value so far, and one for each error."""

    def event(self, kind: str, state: StudyState | None = None, /, **facts: Any) -> None:
        """Log the line of an epoch or of an error."""
        if state is None or kind not in ("epoch", "error"):
            return
        where = f"{clock(self.seconds)}  {state.ended:3d}/{state.trials} done  trial {facts['name']:>4}"
        if kind == "error":
            logger.error(f"{where}  {describe_failure(**facts)}")
            return
        comparison, ending = "violates a constraint", "  stopped" if facts["stopped"] else ""
        if best := facts["best"]:
            comparison = f"best {best['value']:.4f}, trial {state.names.trial(best['trial'])}"
        epoch, metric = f"epoch {facts['epoch']}/{facts['epochs']}", state.options.metric
        logger.info(f"{where}  {epoch}  {metric} {facts['value']:.4f}  ({comparison}){ending}")
