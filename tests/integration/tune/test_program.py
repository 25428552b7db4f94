"""A study within a program that has started a Ray itself."""

import ray

from otter_ray import Study


def test_a_study_runs_on_the_programs_ray_and_leaves_it(connected, tiny_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    address = ray.get_runtime_context().gcs_address
    study = Study(tiny_config, trials=2, name="mine", enqueue=[{"lr": 0.005}])
    request = study.request()
    assert (request.address, request.is_connected) == (address, True)
    result = study.run()
    assert ray.is_initialized()
    assert ray.get_runtime_context().gcs_address == address
    assert result.folder == tmp_path / "runs/demo/mine"
    assert [*result.trials["optimizer.options.lr"]][1] == 0.005
    assert {*result.trials["state"]} <= {"complete", "pruned"}
    assert result.best.onnx.is_file()
    assert not result.is_interrupted
    assert f"the Ray at {address} is used as it is" in capfd.readouterr().out
