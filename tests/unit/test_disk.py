"""What is said when a disk is full."""

from otter_ray.disk import disk_full_message
from otter_ray.study.layout import trial_checkpoints


def test_a_full_disk_is_reported_with_what_a_trial_needs(tmp_path):
    checkpoints = tmp_path / "trials/0000/checkpoints"
    checkpoints.mkdir(parents=True)
    assert "MB free)" in disk_full_message(checkpoints, trial_checkpoints(tmp_path))
    (checkpoints / "last.ckpt").write_bytes(bytes(2_000_000))
    assert "each trial that runs needs 6.0 MB for its checkpoints" in disk_full_message(
        checkpoints, trial_checkpoints(tmp_path)
    )
