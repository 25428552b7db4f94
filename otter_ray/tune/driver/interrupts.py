"""End a search that runs: Tune is told to stop, and signals become requests."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from otter_ray.tune.cluster.nodes import own_node_died
from otter_ray.tune.ray_compat import NotPickled
from otter_ray.tune.search.stopping import StopController


class TuneStopper(NotPickled, Callback, Stopper):  # type: ignore[misc]
    """Tell Tune to end once running trials have been stopped; trials that still wait never start."""

    def __init__(self, controller: StopController) -> None:
        self.controller = controller
        self._running: set[str] = set()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: the scheduler decides about single trials."""
        return False

    def stop_all(self) -> bool:
        """Tell Tune, which asks in each of its rounds, whether the search is over."""
        self.controller.check_time_budget()
        # Tune would wait for a slot for ever.
        if not (self.controller.reason or self._running) and own_node_died():
            self.controller.abort("Ray's raylet on this machine has died, and with it every running trial")
        return bool(self.controller.reason) and not self._running

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that the trial has its slot."""
        self._running.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that the trial has given its slot back."""
        self._running.discard(trial.trial_id)

    # A trial that is to be tried again waits for a slot.
    on_trial_error = on_trial_recover = on_trial_complete


@contextmanager
def handle_interrupts(controller: StopController) -> Iterator[None]:
    """Make the first Ctrl-C a request to stop, the second a KeyboardInterrupt.

    SIGTERM raises KeyboardInterrupt at once: its senders, `ray job stop` or a container's end, wait for some
    seconds only. Outside the main thread nothing is handled, nor is a signal whose handler was not installed
    by Python and could not be restored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request_stop(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        controller.interrupt()

    before = [
        (signum, signal.signal(signum, handler))
        for signum, handler in ((signal.SIGINT, request_stop), (signal.SIGTERM, signal.default_int_handler))
        if signal.getsignal(signum) is not None
    ]
    try:
        yield
    finally:
        for signum, handler in before:
            signal.signal(signum, handler)
