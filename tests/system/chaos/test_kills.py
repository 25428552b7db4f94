"""A study whose driver, slots and Ray are killed, and that comes to the same as an undisturbed one."""

import os
import random
import re
import signal
import subprocess
import time
from itertools import cycle

import pytest

from tests.support.commands import descendants, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def slot_of(command):
    """The process that trains, or starts to; None where there is none."""
    titles = ("ray::demo/", "ray::ImplicitFunc")
    return next((found for found in descendants(command.process.pid) if found.title.startswith(titles)), None)


def raylet_of(command):
    found = descendants(command.process.pid)
    return next(process for process in found if process.title.split("\0")[0].endswith("/raylet"))


class Killer:
    """Kills a study at random moments, which it prints, and tears its journal."""

    def __init__(self, subject, seed):
        self.subject, self.random = subject, random.Random(seed)
        subject.own_server = True  # which dies with its driver
        self.kills, self.orphans = {"driver": 0, "group": 0, "raylet": 0}, []
        self.in_vain = 0  # on a study that was done already
        self.slots, self.said = 0, ""  # slots that were killed, and what their command said

    @property
    def drivers(self):
        return self.kills["driver"] + self.kills["group"]

    def at_start(self, victim):
        """Anywhere in the start-up, the preparation, or the first epochs."""
        enough, until = len(self.subject.epochs()) + 2, time.monotonic() + self.random.uniform(0, 22)
        self._kill(lambda: len(self.subject.epochs()) >= enough or time.monotonic() > until, 0.5, victim)

    def in_the_search(self, victim, slots=0):
        """Up to a few epochs after some that this driver heard of, and after so many of its slots."""
        enough = len(self.subject.epochs()) + self.random.randint(1, 3)
        self._kill(lambda: len(self.subject.epochs()) >= enough, 0.8, victim, slots)

    def at_the_end(self, victim):
        """After the last trial, while the winner is exported; or in a start that finds nothing to be done."""
        self._kill(self.subject.is_done, 8 if self.subject.is_done() else 4, victim)

    def _kill_slots(self, command, count):
        """Within one command: each time the trial goes on from its last checkpoint in a new slot."""
        for kill in range(count):
            before = len(self.subject.epochs())
            if kill % 3 != 2:
                wait_for(lambda before=before: len(self.subject.epochs()) > before, 300)
            slot = wait_for(lambda: slot_of(command), 300)
            with pytest.raises(subprocess.TimeoutExpired):
                command.process.wait(self.random.uniform(0, 1))
            slot.kill()
            print(f"slot {kill + 1}: {len(self.subject.epochs())} epochs, {len(self.subject.ends())} ends")
            wait_for(lambda slot=slot: slot_of(command) not in (None, slot), 300)
            self.slots += 1

    def _kill(self, moment, seconds, victim, slots=0):
        command = self.subject.start()
        self._kill_slots(command, slots)
        wait_for(lambda: moment() or command.process.poll() is not None, 600)
        seconds = self.random.uniform(0, seconds)
        try:
            code = command.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kills[victim] += 1
            self.in_vain += self.subject.is_done()
            self.orphans += descendants(command.process.pid)
            getattr(self, f"_kill_{victim}")(command)
            epochs, ends = len(self.subject.epochs()), len(self.subject.ends())
            print(f"{victim} {self.kills[victim]}: {epochs} epochs, {ends} ends, + {seconds:.1f} s")
            self.tear()
        else:
            assert code == 0, command.end()
        if slots:
            self.said += command.end()[1]

    def _kill_driver(self, command):
        command.process.kill()
        command.process.wait()

    def _kill_group(self, command):
        os.killpg(command.process.pid, signal.SIGKILL)
        command.process.wait()

    def _kill_raylet(self, command):
        """The driver hears of it in seconds, and ends; a slot with little left to do may be done by then."""
        raylet_of(command).kill()
        code, output = command.end()
        assert "Traceback" not in output
        if not self.subject.is_done():
            assert code == 2, output
            assert "error: Ray's raylet on this machine has died" in output
            assert re.search(r"resume with: python -m otter_ray\.tune --resume \S*subject", output), output

    def tear(self):
        """What the kill, or a power cut with it, may have left of the journal's last line."""
        journal = self.subject.folder.journal
        whole = journal.read_bytes() if journal.exists() else b""
        last = whole.splitlines(keepends=True)[-1:]
        if last and self.random.random() < 0.5:
            kept = self.random.randrange(len(last[0]))
            zeros = b"\0" * self.random.choice([0, len(last[0]) - kept])
            journal.write_bytes(whole[: len(whole) - len(last[0]) + kept] + zeros)
            print(f"its last line is torn after {kept} bytes, and has {len(zeros)} zeros instead")

    def bury(self):
        """Ray's agents outlive a driver by a minute."""
        for orphan in self.orphans:
            orphan.kill()


@pytest.fixture
def killer(subject, full, tmp_path):
    killer = Killer(subject(tmp_path), seed=0 if full else 2)
    yield killer
    killer.bury()


def test_a_study_is_killed_again_and_again(killer, undisturbed, full):
    """Its driver at any moment, alone or with its whole group, the raylet under it, and the slots."""
    victims = cycle(["raylet", "driver", "group", "group", "driver", "driver", "group"])
    for round in range(14 if full else 1):
        killer.at_start("driver" if killer.drivers % 2 == 0 else "group")
        killer.in_the_search(next(victims), slots=0 if round else 8 if full else 1)
    assert killer.in_vain == 0
    while killer.drivers < (32 if full else 2):
        killer.at_the_end("driver" if killer.drivers % 2 == 0 else "group")
    assert killer.slots == (8 if full else 1)
    assert "its process died; it resumes from its last checkpoint" in killer.said
    assert "Traceback" not in killer.said
    code, output = killer.subject.start().end(600)
    print(killer.kills)
    assert code == 0, output
    assert killer.subject.outcome() == undisturbed
