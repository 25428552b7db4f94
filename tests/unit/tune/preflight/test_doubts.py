"""What can be started, but is hardly meant, is warned of."""

import logging

import pytest

from otter_ray.config import load_config
from otter_ray.config.lightning_config import LightningConfig
from otter_ray.space import SearchProblem, load_space
from otter_ray.tune.preflight.calls import check_problem
from otter_ray.tune.preflight.doubts import doubts


@pytest.fixture
def problem(tmp_path):
    def make(study, sets=()):
        (tmp_path / "space.yaml").write_text(f"parameters: {{}}\nstudy: {study}\n")
        return SearchProblem(load_config("docaligner_demo", sets), load_space(str(tmp_path / "space.yaml")))

    return make


@pytest.mark.parametrize("study", ["{}", "{metric: valid_iou, mode: max}", "{metric: valid_recall@90}"])
def test_what_is_meant(problem, study):
    assert [*doubts(problem(study).resolved({}, "valid_iou"))] == []


def test_a_search_for_the_worst_model(problem, caplog):
    with caplog.at_level(logging.WARNING, "otter_ray"):
        check_problem(problem("{metric: valid_iou, mode: min}"), gpus=0, starts=True)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "study.mode: is min, but larger values of valid_iou are better" in said
    assert said.endswith("Set it to max.")


def test_a_bound_on_a_file_that_nobody_makes(problem):
    study = '{constraints: ["onnx_bytes@int8 <= 1e6"], objectives: {onnx_latency_ms@fp16: min}}'
    asked = "quantize={do_quant: true, precisions: [int8]}"
    found = [str(doubt) for doubt in doubts(problem(study).resolved({}, "valid_iou"))]
    assert len(found) == 2
    assert "onnx_bytes@int8 is about a file that the study does not make. Set quantize" in found[0]
    assert all("precisions: [int8, fp16]" in said for said in found)  # either advice makes both
    (left,) = doubts(problem(study, [asked]).resolved({}, "valid_iou"))
    assert "onnx_latency_ms@fp16" in left.message
    assert left.message.endswith("Set quantize: {do_quant: true, precisions: [int8, fp16]} in the config.")


def test_a_bound_on_a_file_that_the_project_cannot_make(problem):
    data = {"project": "lightning", "model": {"class_path": "my_project.Module"}, "metric": "loss"}
    config = LightningConfig.from_dict({**data, "trainer": {"max_epochs": 1}})
    asked = problem('{constraints: ["onnx_bytes@int8 <= 1e6"], metric: loss, mode: min}')
    (found,) = doubts(SearchProblem(config, asked.space))
    assert "project: lightning makes fp32 files only" in found.message
    assert found.message.endswith("Remove it from study.constraints.")
