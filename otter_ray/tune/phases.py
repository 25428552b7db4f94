"""A study's two phases on one Ray: the search, then its finalists."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from otter_ray.report.rows import read_rows
from otter_ray.tune.cluster import cluster
from otter_ray.tune.driver import run_trials
from otter_ray.tune.dry_run import plan_for, tell_plan
from otter_ray.tune.finals import finals_note, open_finals
from otter_ray.tune.halt import Halt, used_up
from otter_ray.tune.limits import Limits
from otter_ray.tune.run import Search
from otter_ray.tune.show import Show

# What of a plan is an event's.
PLANNED = ("unit", "trials", "slots", "workers", "cpus", "gpus", "scheduler", "epochs", "epochs_expected")


@dataclass(frozen=True)
class Phases:
    """Runs what is left of either.

    Attributes:
        connect: to Ray, where that has not happened yet.
        autoscaler: its configuration, or None for none.
    """

    show: Show
    connect: Callable[[], object]
    autoscaler: Mapping[str, Any] | None
    limits: Limits

    def run(self, search: Search) -> tuple[Halt | None, Search | None]:
        """The search and, unless what ended it ends the command, its finals.

        Returns:
            What ended the last that ran early, if anything did; the runs of the finalists, if there are any.

        Raises:
            KeyboardInterrupt: Ctrl-C came twice.
        """
        try:
            halt = self._search(search)
            finals = None if halt and halt.ends_command else open_finals(search)
            if finals and finals.trials_left():
                final = self._finals(finals, halt)
                halt = final if final.reason else halt
            return halt, finals
        except KeyboardInterrupt:
            self.show.console.print(f"stopped at once: go on with --name {search.folder.name} --resume")
            search.keep()
            raise

    def _search(self, search: Search) -> Halt | None:
        options = search.space.study
        if not search.trials_left():
            self.show.console.print(f"all {options.num_trials} trials are done: more with --trials")
            return None
        if halt := used_up(search.study, self.limits):
            self.show.console.print(f"{halt.reason} already: for more raise that limit")
            return halt
        return self._run(search, self.limits, finals_note(options, search.config.trainer.max_epochs))

    def _finals(self, finals: Search, halt: Halt | None) -> Halt:
        """What limits a search does not limit these, but for the time, of which they have what is left."""
        until = halt.until if halt else None
        seconds = self.limits.seconds if until is None else until - time.monotonic()
        to_come = [finals.labels[row.number] for row in read_rows(finals.study) if not row.has_ended]
        trials = dict.fromkeys(label.partition(" ")[0] for label in to_come)
        self.show.console.print(f"the search is over; finalists: trials {', '.join(trials)}")
        return self._run(finals, Limits(seconds), unit="run")

    def _run(self, search: Search, limits: Limits, note: str = "", unit: str = "trial") -> Halt:
        self.connect()
        plan = plan_for(
            search.config, search.space.with_trials(search.trials_left()), *cluster(self.autoscaler)
        )
        plan = replace(plan, unit=unit)
        tell_plan(plan, search.config, self.show.console, note)
        self.show.event("plan", **{name: getattr(plan, name) for name in PLANNED})
        return run_trials(search, plan, self.show, self.autoscaler, limits)
