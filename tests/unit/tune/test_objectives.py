"""Several objectives and constraints: real figures of real models, over real Optuna studies."""

import dataclasses
import inspect
import warnings
from types import SimpleNamespace

import optuna
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState

from otter_ray.direction import Direction
from otter_ray.errors import OtterError, StudyError
from otter_ray.export.architecture import architecture_key
from otter_ray.formatting import si_number
from otter_ray.report.__main__ import report
from otter_ray.space import Constraint, StudyOptions, load_space
from otter_ray.space.samplers import samplers_with
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.optuna_compat import report_value
from otter_ray.study.outcomes import ended, finalize_interrupted
from otter_ray.study.pareto import front
from otter_ray.study.trials import rank, read_records, write_parquet
from otter_ray.tune import constraints
from otter_ray.tune.constraints import ModelStatsCache, violations
from otter_ray.tune.display.plain import PlainReporter
from otter_ray.tune.display.study_state import StudyState
from otter_ray.tune.driver.checkpoint_retention import unneeded
from otter_ray.tune.driver.progress_callback import ProgressCallback
from otter_ray.tune.preflight import static_checks as check
from otter_ray.tune.request import ExportSelection, StopCriteria
from otter_ray.tune.samplers.factory import make_sampler
from otter_ray.tune.search.stopping import StopController
from tests.support.search_driver import Driver, epoch_report

BACKBONE = "model.backbone.options.name"
SPACE = """
parameters:
  model.backbone.options.name: {type: categorical, choices: [lcnet_035, lcnet_050, lcnet_075]}
  optimizer.options.lr: {type: float, low: 1.0e-3, high: 1.0e-2}
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)

    def make(**study):
        loaded = load_space(str(tmp_path / "space.yaml"))
        scheduler = {"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 2}}
        study = {"metric": "valid_fpr@4", "scheduler": scheduler, **study}
        return dataclasses.replace(loaded, study=StudyOptions(**study))

    return make


@pytest.fixture(scope="module")
def book():
    """What is measured is measured once for all these tests."""
    return ModelStatsCache(["macs", "onnx_bytes", "onnx_latency_ms"])


@pytest.fixture
def tiny(tiny_config):
    return tiny_config.with_values({"trainer.max_epochs": 4})


def macs(book, config, name):
    return book.of(config.with_values({BACKBONE: name}))["macs"]


def drive(folder, config, space, book):
    """A driver that opens the study in a folder."""
    folder.mkdir(exist_ok=True)
    study = open_study(StudyFolder(folder), space.study, make_sampler(space.study, 0))
    driver = Driver(study, config, space)
    driver.searcher.model_stats = book
    return driver


def test_figures_are_measured_once_for_each_architecture(tiny, book, tmp_path):
    own = ModelStatsCache(["macs", "onnx_latency_ms"], tmp_path / "figures.json")
    small = own.of(tiny.with_values({"optimizer.options.lr": 0.1, "model.loss.name": "ArcFace"}))
    assert small["macs"] == macs(book, tiny, "lcnet_035") < macs(book, tiny, "lcnet_050")
    assert 0 < small["onnx_latency_ms"] < 1000
    assert own.of(tiny) is small
    # A resumed study takes what was measured for what it is, a latency, too.
    text = (tmp_path / "figures.json").read_text()
    (tmp_path / "figures.json").write_text(text.replace(str(small["onnx_latency_ms"]), "7.5"))
    again = ModelStatsCache(["macs", "onnx_latency_ms"], tmp_path / "figures.json")
    assert again.of(tiny) == {**small, "onnx_latency_ms": 7.5}


def test_a_model_that_cannot_be_built_fails_its_trial_alone(tiny):
    impossible = tiny.with_values({"model.head.options.embed_dim": -5, "model.loss.embed_dim": -5})
    with pytest.raises(OtterError, match="negative dimension"):
        ModelStatsCache(["macs"]).of(impossible)


@pytest.mark.parametrize(
    ("key", "value", "is_another"),
    [
        ("optimizer.options.lr", 0.5, False),
        ("model.loss.options.m", 0.5, False),
        ("model.backbone.options.pretrained", True, False),
        ("model.head.options.embed_dim", 64, True),
        ("onnx.wrapper_options.normalize", False, True),
    ],
)
def test_what_figures_depend_on(tiny, key, value, is_another):
    assert (architecture_key(tiny.with_values({key: value})) != architecture_key(tiny)) == is_another


def test_what_violates_a_constraint_costs_no_training_and_no_trial(tiny, space, book, tmp_path):
    limit = macs(book, tiny, "lcnet_050")
    driver = drive(tmp_path / "s", tiny, space(num_trials=12, constraints=[f"macs <= {limit}"]), book)
    trained = [driver.start() for _ in range(12)]
    names = {trial.config["values"].get(BACKBONE, "lcnet_035") for trial in trained}
    assert names == {"lcnet_035", "lcnet_050"}
    for trial in trained:
        driver.run([0.5, 0.6, 0.7, 0.8], trial=trial)
    study = driver.searcher.study
    barred = [trial for trial in study.trials if trial.params[BACKBONE] == "lcnet_075"]
    assert barred
    for trial in barred:
        assert (trial.state, trial.values, trial.intermediate_values) == (TrialState.PRUNED, None, {})
        assert trial.constraints == {
            f"macs <= {limit}": pytest.approx(macs(book, tiny, "lcnet_075") / limit - 1)
        }
    assert ended(study) == 12
    assert driver.searcher.suggest("one more") == "FINISHED"
    rows = read_records(study)
    assert {row.number for row in rows if row.state == "infeasible"} == {trial.number for trial in barred}
    assert not {row.number for row in rank(rows, Direction.MAX)} & {trial.number for trial in barred}
    assert rows[barred[0].number].figures["macs"] == macs(book, tiny, "lcnet_075")


def test_tpe_learns_what_a_constraint_allows(tiny, space, book, tmp_path):
    def drawn_in_vain(name, **options):
        sampler = {"name": name, "options": options}
        limit = macs(book, tiny, "lcnet_035")
        driver = drive(tmp_path / name, tiny, space(constraints=[f"macs <= {limit}"], sampler=sampler), book)
        for _ in range(20):
            driver.run([0.5, 0.5, 0.5, 0.5])
        return sum(row.state == "infeasible" for row in read_records(driver.searcher.study))

    assert drawn_in_vain("TPESampler", n_startup_trials=6) < drawn_in_vain("RandomSampler") / 2


def test_a_base_config_that_violates_a_constraint_is_measured_against_but_cannot_win(
    tiny, space, book, tmp_path
):
    config = tiny.with_values({BACKBONE: "lcnet_075"})
    limited = space(constraints=[f"macs <= {macs(book, tiny, 'lcnet_050')}"])
    assert violations(config, limited.study, book)[0].startswith("macs <= ")
    assert violations(tiny, limited.study, book) == []
    driver = drive(tmp_path / "s", config, limited, book)
    assert driver.run([0.9, 0.9, 0.9, 0.9]) == 4
    driver.run([0.5, 0.5, 0.5, 0.5])
    rows = read_records(driver.searcher.study)
    assert (rows[0].is_base, rows[0].state, rows[0].value) == (True, "complete", 0.9)
    assert [row.value for row in rank(rows, Direction.MAX)] == [0.5]


def test_a_search_ends_when_nothing_satisfies_the_constraints(tiny, space, book, tmp_path, monkeypatch):
    monkeypatch.setattr(constraints, "MAX_INFEASIBLE", 15)
    limited = space(num_trials=8, constraints=["onnx_bytes <= 1e8", "macs <= 1e3"])
    driver = drive(tmp_path / "s", tiny, limited, book)
    base = driver.start()
    # The base runs to its end.
    assert driver.searcher.suggest("another") is None
    assert not driver.searcher.stop_controller.reason
    driver.run([0.5, 0.5, 0.5, 0.5], trial=base)
    assert driver.searcher.suggest("another") == "FINISHED"
    reason = driver.searcher.stop_controller.reason
    assert reason.startswith("15 configurations in a row violate a constraint. The tightest is macs <= 1e3: ")
    assert f"from {si_number(macs(book, tiny, 'lcnet_035'))} to " in reason
    assert ended(driver.searcher.study) == 1


def test_killed_at_any_line_a_study_with_constraints_draws_the_same(tiny, space, book, tmp_path):
    limited = space(constraints=[f"macs <= {macs(book, tiny, 'lcnet_035')}", "onnx_bytes <= 1e9"])
    driver = drive(tmp_path / "whole", tiny, limited, book)
    driver.run([0.5, 0.6, 0.7, 0.8])
    journal = tmp_path / "whole/study.journal"
    begin = len(journal.read_bytes())
    expected = driver.start().config
    # Some were drawn before it that are too large.
    assert expected["number"] > 2
    lines = journal.read_bytes()[begin:].splitlines(keepends=True)
    for count in range(len(lines)):
        killed = tmp_path / f"killed{count}"
        killed.mkdir()
        (killed / "study.journal").write_bytes(journal.read_bytes()[:begin] + b"".join(lines[:count]))
        again = drive(killed, tiny, limited, book)
        finalize_interrupted(again.searcher.study, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna's, of what it was told already
            assert again.start().config == expected, count
        told = [(trial.state, trial.constraints) for trial in again.searcher.study.trials]
        assert told == [(trial.state, trial.constraints) for trial in driver.searcher.study.trials], count


def test_a_stopped_trial_tells_all_objectives_with_its_best_so_far(tiny, space, book, tmp_path):
    sampler = {"name": "TPESampler", "options": {"n_startup_trials": 2}}
    several = space(objectives={"macs": "min", "loss": "min"}, sampler=sampler)
    driver = drive(tmp_path / "s", tiny, several, book)
    assert driver.run([0.5, 0.9, 0.7, 0.6]) == 4
    assert driver.run([0.3, 0.2]) == 1
    # TPE goes on with a trial that was stopped.
    assert len({driver.start().config["number"] for _ in range(4)}) == 4
    base, stopped = driver.searcher.study.trials[:2]
    small = macs(book, tiny, "lcnet_035")
    # Of the best epoch, the second: the loss was 1 / 2 there.
    assert base.values == [0.9, small, 0.5]
    assert stopped.state is TrialState.COMPLETE
    assert stopped.values[0] == 0.3
    row = read_records(driver.searcher.study)[1]
    assert (row.state, row.value, row.figures["loss"]) == ("pruned", 0.3, 1.0)
    settled = drive(tmp_path / "s", tiny, several, book)
    assert [row.state for row in read_records(settled.searcher.study)][:2] == ["complete", "pruned"]


def test_an_objective_that_was_not_logged_fails_its_trial(tiny, space, book, tmp_path):
    driver = drive(tmp_path / "s", tiny, space(objectives={"nothing": "max"}), book)
    driver.run([0.5, 0.9, 0.7, 0.6])
    [row] = read_records(driver.searcher.study)
    assert (row.state, "no nothing was logged at epoch 2" in row.error) == ("failed", True)


def two_objectives(values):
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr("objectives", {"macs": "min"})
    for value, size in values:
        trial = study.ask()
        trial.set_user_attr("figures", {"macs": size})
        trial.set_user_attr("curve/1", {"epoch": 1})
        report_value(study, trial, 1, value)
        study.tell(trial, [value, size])
    return study


POINTS = [(0.9, 50), (0.5, 10), (0.6, 30), (0.55, 40), (0.9, 60), (0.5, 10), (0.2, 10), (0.1, 5)]


def test_the_front_is_optunas_best_first():
    study = two_objectives(POINTS)
    found = [row.number for row in front(read_records(study), Direction.MAX, {"macs": Direction.MIN})]
    assert found == [0, 2, 1, 7]
    # Optuna lists each of several equal points.
    assert {trial.number for trial in study.best_trials} == {*found, 5}


def test_checkpoints_of_the_front_are_kept():
    rows = read_records(two_objectives(POINTS))
    gone = {
        name
        for name in unneeded(rows, StudyOptions(objectives={"macs": "min"}), 1)
        if name.endswith("best.ckpt")
    }
    assert gone == {f"trials/{number:04d}/checkpoints/best.ckpt" for number in (3, 4, 5, 6)}


@pytest.mark.parametrize(
    ("text", "words"), [("pareto", "study.objectives"), ("top", "top3"), ("top0", "top3")]
)
def test_an_export_that_is_none(text, words):
    with pytest.raises(StudyError, match=words):
        ExportSelection.of(text, StudyOptions())


def test_what_is_exported():
    assert ExportSelection.of("best", StudyOptions()) == ExportSelection()
    assert ExportSelection.of("top3", StudyOptions()) == ExportSelection(count=3)
    options = StudyOptions(objectives={"macs": "min"})
    assert ExportSelection.of("pareto", options) == ExportSelection(is_front=True)


def test_samplers_that_know_one_objective_alone():
    """As Optuna's own samplers say when they are asked."""
    refusing = set()
    for name in optuna.samplers.__all__:
        cls = getattr(optuna.samplers, name)
        if not name.endswith("Sampler") or inspect.isabstract(cls) or name == "PartialFixedSampler":
            continue
        taken = inspect.signature(cls).parameters
        few = {key: 2 for key in ("n_startup_trials", "population_size") if key in taken}
        grid = {"search_space": {"x": [0, 0.5, 1]}} if name == "GridSampler" else {}
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=cls(**few, **grid))
        try:
            study.optimize(lambda trial: (trial.suggest_float("x", 0, 1, step=0.5), 1.0), n_trials=4)
        except ValueError:
            refusing.add(name)
    assert refusing == set(samplers_with(multi_objective=False))


def test_a_sampler_that_knows_one_objective_is_refused_with_those_that_know_several(space):
    one = space(objectives={"macs": "min"})
    one.study.sampler.name = "CmaEsSampler"
    [problem] = check._unable_sampler(one)
    assert problem.key == "study.sampler.name"
    assert "CmaEsSampler can search for one objective, not 2. Choose TPESampler or " in problem.message
    assert not [*check._unable_sampler(space(objectives={"macs": "min"}))]


def test_a_grid_with_points_that_are_no_trials_is_refused(space):
    one = space(constraints=["macs <= 1e9"])
    one.study.sampler.name = "GridSampler"
    [problem] = check._unable_sampler(one)
    assert "Choose RandomSampler" in problem.message


def test_patience_does_not_count_what_was_never_trained(tiny, space, book, tmp_path):
    limited = space(constraints=[f"macs <= {macs(book, tiny, 'lcnet_035')}"])
    driver = drive(tmp_path / "s", tiny, limited, book)
    study = driver.searcher.study
    driver.searcher.stop_controller = StopController(study, StopCriteria(patience=3), lambda text: None)
    for trained in range(1, 5):
        assert not driver.searcher.stop_controller.reason, trained
        driver.run([0.5, 0.5, 0.5, 0.5])
    assert driver.searcher.stop_controller.reason.startswith("3 trials in a row")
    assert len(driver.searcher.study.trials) > 4


def test_the_table_the_parquet_and_the_report_tell_figures(tiny, space, book, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    several = space(objectives={"macs": "min"}, constraints=[f"macs <= {macs(book, tiny, 'lcnet_050')}"])
    driver = drive(tmp_path / "s", tiny, several, book)
    while not (barred := [row for row in read_records(driver.searcher.study) if row.state == "infeasible"]):
        driver.run([0.5, 0.6, 0.7, 0.8])
    rows = read_records(driver.searcher.study)
    write_parquet(rows, tmp_path / "trials.parquet", tiny)
    table = pq.read_table(tmp_path / "trials.parquet").to_pydict()
    assert table["macs"] == [row.figures["macs"] for row in rows]
    assert table["state"].count("infeasible") == len(barred)
    report([tmp_path / "s"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Trials by valid_fpr@4 (*: the Pareto front with macs)")
    # The base is the smallest, and nothing was better: the front is one point.
    assert [line.split()[:2] for line in lines if line.strip().startswith("*")] == [["*", "0"]]
    assert any(f"{barred[0].number} " in line and "infeasible" in line for line in lines)


def test_a_base_that_cannot_win_is_never_the_best_so_far(space, study, printed):
    state = StudyState(space().study, 4, SimpleNamespace(trials=2), base_counts=False)
    progress = ProgressCallback(study, state, PlainReporter())
    for number, values, value in ((0, {}, 0.9), (1, {"a": 1}, 0.5)):
        study.ask()
        trial = SimpleNamespace(config={"number": number, "values": values})
        progress.on_trial_start(trial=trial)
        progress.on_trial_result(trial=trial, result=epoch_report(1, value))
    base, other = printed().splitlines()
    assert base.endswith("0.9000  (violates a constraint)")
    assert other.endswith("(best 0.5000, trial 1)")


def test_figures_of_a_precision_are_of_its_own_file(tiny):
    names = ["onnx_bytes", "onnx_bytes@fp16", "onnx_bytes@int8", "onnx_latency_ms@int8"]
    found = ModelStatsCache(names).of(tiny)
    assert [*found] == names
    assert found["onnx_bytes@int8"] < found["onnx_bytes@fp16"] < found["onnx_bytes"]
    assert found["onnx_latency_ms@int8"] > 0
    assert Constraint.of("onnx_bytes@int8 <= 1e6").stat == "onnx_bytes@int8"
    with pytest.raises(ValueError, match="'onnx_bytes@int4' in"):
        Constraint.of("onnx_bytes@int4 <= 1e6")
