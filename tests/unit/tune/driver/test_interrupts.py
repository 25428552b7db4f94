"""A search that runs is ended: by Tune's stopper and by signals."""

import os
import signal
from types import SimpleNamespace

import pytest

from otter_ray.tune.driver.interrupts import TuneStopper, handle_interrupts
from otter_ray.tune.search.stopping import StopController


def test_the_end_does_not_wait_for_a_trial_that_waits_for_another_slot(study):
    stopper, trial = TuneStopper(StopController(study)), SimpleNamespace(trial_id="ray-0")
    stopper.on_trial_start(1, [], trial)
    stopper.controller.interrupt()
    assert not stopper.stop_all()
    stopper.on_trial_recover(1, [], trial)
    assert stopper.stop_all()


def test_the_second_interrupt_ends_at_once(study):
    notified = []
    controller = StopController(study, notify=notified.append)
    before = signal.getsignal(signal.SIGINT)
    with handle_interrupts(controller):
        os.kill(os.getpid(), signal.SIGINT)
        assert controller.is_interrupt
        assert "running trials finish their epoch" in notified[0]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_that_python_cannot_restore_stays(study, monkeypatch):
    getsignal = signal.getsignal
    before = getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        signal, "getsignal", lambda signum: None if signum == signal.SIGTERM else getsignal(signum)
    )
    with handle_interrupts(StopController(study)):
        assert getsignal(signal.SIGTERM) is before
        assert getsignal(signal.SIGINT) is not signal.default_int_handler
    assert getsignal(signal.SIGTERM) is before


def test_sigterm_ends_at_once(study):
    """`ray job stop` and a container's end wait for some seconds only."""
    controller = StopController(study)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), handle_interrupts(controller):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not controller.is_interrupt
    assert signal.getsignal(signal.SIGTERM) is before
