"""The status of a trial, as it stands in tables and in JSON."""

import json

import pytest

from otter_ray.study.status import TrialStatus


@pytest.mark.parametrize("status", TrialStatus)
def test_a_status_is_its_word_on_disk_and_in_text(status):
    assert json.dumps({status: status}) == f'{{"{status.value}": "{status.value}"}}'
    assert f"{status}" == status.value == status


def test_a_trial_has_ended_once_it_was_trained():
    assert {status for status in TrialStatus if status.has_ended} == {"complete", "pruned", "failed"}
