"""Whole studies, as a user runs them: real Ray, real training, real onnxruntime."""

import json
import re
import shlex
import shutil

import cv2
import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.trial import TrialState

from otter_ray.config import find_space, load_config
from otter_ray.direction import Direction
from otter_ray.study.trials import rank, read_records
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training
from otter_ray.tune.selection.winner import export_winner
from otter_ray.vision.drawing import draw_document
from tests.support.commands import OnTerminal, descendants, wait_for


def test_it_ends_with_the_table_the_winner_and_the_onnx_file(searched):
    folder, output = searched
    assert "plan: 4 trials on" in output
    assert "gate passed: opset 16, batches 1, 2, 7" in output
    assert re.search(
        r"test: valid_fpr@4 0\.\d{4} \(95 % interval .* of 5 classes that the search never", output
    )
    [onnx] = folder.glob("demo_*_fp32.onnx")
    assert output.rstrip().endswith(f"onnx: {onnx}")


def test_what_is_warned_of_is_said_once(searched):
    folder, output = searched
    few = "with only 216 negative pairs"
    assert output.count(few) == output.count("negative pairs, the hardest") == 1
    assert [log.read_text().count(few) for log in folder.glob("trials/*/log.txt")] == [1] * 4


def test_a_trials_log_holds_nothing_that_no_user_can_act_on(searched):
    folder, output = searched
    assert output.startswith("demo: starting Ray and loading torch\n")
    for log in folder.glob("trials/*/log.txt"):
        # What Ray Train says of its local mode, and Lightning of torch.
        assert not re.search("local mode|LeafSpec", log.read_text()), log


def test_base_and_winner_are_told_apart_by_their_intervals(searched, reopened, capsys):
    from otter_ray.report.__main__ import report

    folder, output = searched
    rows = rank(read_records(reopened(folder).study), Direction.MAX)
    base = next(row for row in rows if row.is_base)
    [facts] = [json.loads(path.read_text()) for path in folder.glob("demo_*.json")]
    assert facts["trial"] == rows[0].number != base.number
    assert facts["base"]["value"] == pytest.approx(base.value, abs=1e-6)
    low, high = facts["base"]["interval"]
    assert 0 <= low <= base.value <= high <= 1
    [line] = [line for line in output.splitlines() if line.startswith("base config: ")]
    assert line.startswith(
        f"base config: valid_fpr@4 {base.value:.4f} (95 % interval {low:.2f} to {high:.2f}); "
    )
    assert f"winner: trial {rows[0].number}, {rows[0].value:.4f} (" in line
    # On the validation set and on the test split, both by their ONNX files.
    gains = [facts["base"][name]["value"] for name in ("gain", "test_gain")]
    assert gains[0] == pytest.approx(rows[0].value - base.value, abs=1e-3)
    test = facts["gate"]["test"]["metrics"]["valid_fpr@4"]
    assert gains[1] == pytest.approx(test - facts["base"]["test"]["value"], abs=1e-6)
    assert f"gain on the test split: {gains[1]:+.3f} (" in output
    assert f"gain on validation, by which the winner was selected: {gains[0]:+.3f} (" in output
    assert facts["selection"]["models"] == 4
    report([folder])
    told = " ".join(capsys.readouterr().out.split())
    assert line in told
    assert "5 classes that the search never saw" in told


def test_the_onnx_file_gives_unit_embeddings_for_any_batch(searched):
    [onnx] = searched[0].glob("*.onnx")
    session = onnxruntime.InferenceSession(str(onnx))
    images = np.random.default_rng(0).random((5, 3, 32, 32), dtype=np.float32)
    [features] = session.run(["feats"], {"img": images})
    assert features.shape == (5, 128)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_the_folder_holds_what_the_design_says(searched):
    folder, _ = searched
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "study.journal", "trials", "trials.parquet", "config.yaml", "best.yaml", "best.ckpt",
        "environment.json", "augmented.png", "captures.png", "gallery.json", "report.html", "MODEL.md",
    }  # fmt: skip
    trial = {path.name for path in (folder / "trials/0000").iterdir()}
    assert trial >= {"config.yaml", "checkpoints", "log.txt", "logger"}
    assert list((folder / "trials/0000/logger").glob("events.out.tfevents*"))
    assert not list(folder.rglob("*.pkl"))


def test_the_journal_the_parquet_and_the_json_agree(searched, reopened):
    folder, _ = searched
    rows = read_records(reopened(folder).study)
    assert [row.number for row in rows] == [0, 1, 2, 3]
    assert rows[0].is_base
    assert all(row.state in ("complete", "pruned") for row in rows)
    table = pq.read_table(folder / "trials.parquet").to_pydict()
    assert table["value"] == [row.value for row in rows]
    [facts] = [json.loads(path.read_text()) for path in folder.glob("demo_*.json")]
    assert facts["gate"]["metrics"]["valid_fpr@4"] == pytest.approx(
        rank(rows, Direction.MAX)[0].value, abs=1e-3
    )


def test_no_secret_reaches_the_folder_or_the_terminal(searched, secrets):
    folder, output = searched
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert folder / "environment.json" in written
    for secret in secrets:
        assert secret not in output
        assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_training_best_yaml_repeats_the_winner(searched, reopened, tmp_path):
    folder, _ = searched
    winner = rank(read_records(reopened(folder).study), Direction.MAX)[0]
    curve = []
    config = load_config(str(folder / "best.yaml"))
    run_training(
        config,
        tmp_path,
        lambda epoch: curve.append(epoch.metrics["valid_fpr@4"]),
        RunOptions(cpus=1),
        RunHooks(),
    )
    assert curve[: winner.epochs] == winner.curve


def test_a_candidate_that_fails_the_gate_is_named_and_the_next_best_taken(searched, reopened, tmp_path):
    copy = shutil.copytree(searched[0], tmp_path / "tiny")
    search = reopened(copy)
    first, second = rank(read_records(search.study), Direction.MAX)[:2]
    search.folder.trial(first.number).joinpath("checkpoints/best.ckpt").write_bytes(b"broken")
    outcome = export_winner(search)
    assert outcome.winner.number == second.number
    # The study had exported once before.
    assert outcome.exported.gate.announcement().endswith("this is look 2")
    assert outcome.rejected[0].startswith(f"trial {first.number} ")
    assert "cannot be read" in outcome.rejected[0]


def test_the_report_has_curves_and_pictures_of_the_winner_on_the_validation_set(searched, reopened, tmp_path):
    folder, output = searched
    assert f"report: {folder}/report.html" in output
    page = (folder / "report.html").read_text()
    shown = json.loads((folder / "gallery.json").read_text())
    [facts] = [json.loads(path.read_text()) for path in folder.glob("demo_*.json")]
    [curve], [base] = shown["winner"]["curves"], shown["base"]
    assert curve["mark"]["y"] == facts["gate"]["metrics"]["valid_fpr@4"]
    assert base["mark"]["y"] == pytest.approx(facts["base"]["value"])
    for row in facts["gate"]["details"]["roc"][:-1]:
        place = np.argmin(np.abs(np.log(np.array(curve["x"]) / row["fpr"])))
        assert curve["y"][place] == pytest.approx(row["tpr"], abs=1e-3)
    neighbours, pairs = shown["winner"]["galleries"]
    # 4 documents of 6 captures each.
    assert [len(row) for row in neighbours["rows"]] == [7] * 4
    assert [len(row) for row in pairs["rows"]] == [2] * 6
    for row in neighbours["rows"]:
        assert all((cell["kind"] == "right") == (cell["name"] == row[0]["name"]) for cell in row[1:])
        assert row[0]["image"] in page
    # A study that was exported by an earlier version, or whose export was killed.
    copy = shutil.copytree(folder, tmp_path / "earlier")
    (copy / "gallery.json").unlink()
    assert export_winner(reopened(copy)).exported.is_earlier
    again = json.loads((copy / "gallery.json").read_text())
    assert again["winner"]["galleries"][0]["rows"][0][0] == neighbours["rows"][0][0]
    assert again["base"] == shown["base"]


def test_what_was_exported_is_not_exported_again(searched, reopened, tmp_path):
    copy = shutil.copytree(searched[0], tmp_path / "moved")
    search = reopened(copy)
    (copy / "best.yaml").unlink()
    (copy / "MODEL.md").write_text("# another_winner.onnx")
    first = export_winner(search).exported
    assert first.is_earlier
    assert [first.onnx] == list(copy.glob("*.onnx"))
    assert str(first.gate) in searched[1]
    for name in ("best.yaml", "MODEL.md"):
        assert (copy / name).read_bytes() == (searched[0] / name).read_bytes()
    # Of a file whose JSON a kill prevented nothing is known.
    first.json.unlink()
    again = export_winner(search).exported
    assert not again.is_earlier
    assert [again.onnx] == list(copy.glob("*.onnx"))
    assert [path.name for path in copy.glob("exports/*.onnx")] == [first.onnx.name]


def test_the_report_reads_the_study(searched, capsys):
    from otter_ray.report.__main__ import report

    report([searched[0]])
    assert "0 base" in capsys.readouterr().out


def test_trials_that_break_are_marked_and_the_search_goes_on(
    tune_here, open_ray, tiny_sets, reopened, tmp_path
):
    """A learning rate that ends in NaN and a batch of one that BatchNorm refuses, among good ones.

    The documents lie in a folder that is named relative to where the command was started.
    The Ray was there before, is used, and stays.
    """
    images = tmp_path / "documents"
    images.mkdir()
    for index in range(40):
        cv2.imwrite(str(images / f"{index}.png"), draw_document(index))
    for part in ("train", "valid"):
        options = f"dataset.{part}_options.options"
        tiny_sets = [*tiny_sets, "--set", f"{options}.root=documents", "--set", f"{options}.drawn=0"]
    space = {
        "parameters": {
            "optimizer.options.lr": {"type": "categorical", "choices": [1e-3, 1e30]},
            "common.batch_size": {"type": "categorical", "choices": [16, 1]},
        },
        "study": {"num_trials": 6, "sampler": {"name": "RandomSampler", "options": {"seed": 1}}},
    }
    (tmp_path / "breaking.yaml").write_text(yaml.safe_dump(space))
    arguments = [
        *tiny_sets,
        "--set",
        "optimizer.options.lr=1e-3",
        "--space",
        tmp_path / "breaking.yaml",
        "--name",
        "b",
    ]
    code, output = tune_here("demo", *arguments, folder=tmp_path)
    assert code == 0, output
    rows = read_records(reopened(tmp_path / "runs/demo/b").study)
    errors = {row.error for row in rows if row.state == "failed"}
    assert any("the loss is nan after step" in error for error in errors), errors
    assert any("Expected more than 1 value per channel" in error for error in errors), errors
    assert len(rows) == 6
    assert "gate passed" in output
    assert "log.txt" in output
    failed = next(row for row in rows if row.state == "failed")
    assert "Error" in (tmp_path / f"runs/demo/b/trials/{failed.number:04d}/log.txt").read_text()
    assert open_ray.cpus() == 2


def test_ctrl_c_ends_cleanly_and_resume_goes_on(tune, tune_here, tiny_sets, reopened, tmp_path):
    space = yaml.safe_load(find_space("demo").read_text())
    space["study"]["scheduler"] = {"name": "none"}  # no trial ends with the epoch that it finishes
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    longer = ["--set", "trainer.max_epochs=4", "--space", tmp_path / "space.yaml"]
    arguments = [*tiny_sets, *longer, "--trials", 6, "--name", "stopped"]
    command = tune("demo", *arguments, folder=tmp_path, own_server=True)
    command.read_until(r"[2-4]/6 done  trial +\S+  epoch 1/4 ")
    # Between two trials a slot has Ray's own name.
    title = re.compile(r"ray::demo/000\d \w+=\S+ ")
    wait_for(lambda: any(title.match(process.title) for process in descendants(command.process.pid)))
    command.interrupt()
    code, output = command.end()
    assert code == 130, output
    assert "trials left: " in output
    assert "gate passed" in output
    folder = tmp_path / "runs/demo/stopped"
    before = reopened(folder).study.get_trials()
    assert {trial.state for trial in before} >= {TrialState.COMPLETE, TrialState.RUNNING}
    # Those that were running have finished their epoch; one that waited for its slot has not begun.
    began = [trial for trial in before if (folder / f"trials/{trial.number:04d}").is_dir()]
    assert len(began) >= 3
    assert all(trial.intermediate_values for trial in began)

    # Nothing has to be said again: the folder knows.
    hint = re.search(r"resume with: python -m otter_ray\.tune (.*)", output)[1]
    assert hint == "--resume runs/demo/stopped"
    code, output = tune_here(*shlex.split(hint), folder=tmp_path)
    assert code == 0, output
    study = reopened(folder).study
    assert [trial.number for trial in study.trials] == list(range(6))
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in before:
        after = study.trials[trial.number].intermediate_values
        assert after == {**after, **trial.intermediate_values}
        assert list(after) == list(range(1, len(after) + 1))
    assert "gate passed" in output


def test_ctrl_c_twice_ends_at_once_and_resume_goes_on(tune, tune_here, tiny_sets, reopened, tmp_path):
    """The first command is on a terminal, the second one tells programs."""
    # Trials that are drawn while they train, however long a picture takes.
    longer = ["--set", "dataset.train_options.options.length_of_dataset=1024"]
    arguments = [*tiny_sets, *longer, "--trials", 3, "--name", "stopped"]
    command = tune("demo", *arguments, folder=tmp_path, kind=OnTerminal)
    # The last line of the view: what stands above has been drawn by then.
    view = command.read_until(r"^ +[01]  +[01]/2")
    assert any(re.search(r" slots [12]/2", line) for line in view)
    [head] = [line for line in view if line.startswith(" demo/stopped ")]
    assert re.fullmatch(r" demo/stopped  0 of 3 trials done \([12] running\)  \d+:\d\d", head)
    assert re.match(r" +[01]  +[01]/2", view[-1])
    command.interrupt()
    command.read_until("running trials finish")
    command.interrupt()
    code, output = command.end()
    assert code == 130, output
    assert "resume with: python -m otter_ray.tune --resume runs/demo/stopped" in output.replace(
        "\n", ""
    )  # the terminal has 80 columns
    assert "gate passed" not in output
    # What was drawn is gone, what was said is there.
    assert "passed after epoch" not in output
    assert output.count("running trials finish") == 1

    code, output = tune_here("demo", *arguments, "--resume", "--json", folder=tmp_path)
    assert code == 0, output
    assert "\x1b" not in output
    rows = read_records(reopened(tmp_path / "runs/demo/stopped").study)
    assert [row.number for row in rows] == [0, 1, 2]
    assert {row.state for row in rows} <= {"complete", "pruned"}
    events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    ended = {event["trial"]: event for event in events if event["event"] == "ended"}
    told = [(event["state"], event["value"], event["epochs"]) for _, event in sorted(ended.items())]
    assert told == [(row.state, row.value, row.epochs) for row in rows if row.number in ended]
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["study", "plan"]
    assert kinds[-2:] == ["exported", "end"]
    assert events[-1]["best"]["value"] == rank(rows, Direction.MAX)[0].value
    assert events[-1]["code"] == 0
