"""Each of the doctor's checks against a machine, or a part of one, that really is as it must not be."""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from otter_ray.config import load_config
from otter_ray.config.lookup import find_config
from otter_ray.doctor.diagnosis import Diagnosis, _is_open
from otter_ray.doctor.finding import error, examine, ok, warning
from otter_ray.doctor.machine import packages
from otter_ray.doctor.needs import data_paths, hub, paths, precision
from otter_ray.errors import StudyError
from otter_ray.space import SearchProblem, load_space

SPACE = """
parameters:
  dataset.train_options.options.root: {{type: categorical, choices: [{first}, {second}]}}
study: {{num_trials: 2}}
"""


def of_level(findings, level):
    return [finding.text for finding in findings if finding.level == level]


def in_process(code, before=None, under=()):
    """What `code` prints in a fresh interpreter."""
    line = [*under, sys.executable, "-c", code]
    return subprocess.run(line, capture_output=True, text=True, check=True, preexec_fn=before).stdout


def test_whatever_a_check_does_the_others_go_on():
    def crashes():
        yield ok("begun")
        raise ZeroDivisionError("by nothing")

    def complains():
        warnings.warn("beware", stacklevel=1)
        raise StudyError("study.x is 1. Raise it.")

    assert examine(crashes) == [ok("begun"), error("cannot be examined: ZeroDivisionError: by nothing")]
    assert examine(complains) == [error("study.x is 1. Raise it."), warning("beware")]
    started = time.monotonic()
    (finding,) = examine(lambda: time.sleep(30) or [], seconds=0.2)
    assert "no answer within 0.2 s" in finding.text
    assert time.monotonic() - started < 5


def test_packages_that_do_not_fit_are_named_with_the_remedy(tmp_path, monkeypatch):
    assert of_level(packages(), "error") == []
    about = tmp_path / "otter_ray-0.1.0.dist-info"
    about.mkdir()
    required = ["torch>=99", "numpy", "no-such-package", 'absent; extra == "dev"']
    lines = ["Metadata-Version: 2.1", "Name: otter_ray", "Version: 0.1.0"]
    lines += [f"Requires-Dist: {text}" for text in required]
    (about / "METADATA").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    (text,) = of_level(packages(), "error")
    assert text.startswith("torch ")
    assert text.endswith("pip install 'torch>=99' 'no-such-package'")


def test_few_open_files():
    code = "from otter_ray.doctor.machine import limits; print(next(limits()))"
    few = in_process(code, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512)))
    assert "512 open files at most" in few
    assert "ulimit -n 65536" in few
    raised = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 9000))  # noqa: E731
    assert "level='ok', text='512 open files, which Ray raises'" in in_process(code, before=raised)


def test_little_room(tmp_path):
    """A machine with a small /dev/shm, a small disk for its runs and a read-only one for its cache."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces, to mount small disks")
    for name in ("runs", "cache"):
        (tmp_path / name).mkdir()
    mounts = (
        "mount -t tmpfs -o size=64m none /dev/shm && mount -t tmpfs -o size=200m none runs && "
        'mount -t tmpfs -o ro none cache && exec "$@"'
    )
    code = (
        "from otter_ray.doctor.machine import disks, limits; from pathlib import Path\n"
        "print(*limits(), *disks(Path('runs/CONFIG/STUDY')), sep='\\n')"
    )
    under = ["unshare", "--mount", "sh", "-c", mounts, "sh"]
    line = [*under, sys.executable, "-c", code]
    environment = {**os.environ, "OTTER_RAY_CACHE": "cache"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    _, shared, runs, cache, *_ = done.stdout.splitlines()
    assert "level='warning'" in shared
    assert "0.1 of 0.1 GiB free" in shared
    assert "--shm-size" in shared
    assert "level='error', text='--runs runs/CONFIG/STUDY: 0.2 of 0.2 GiB free. Free some space" in runs
    assert f"level='error', text='OTTER_RAY_CACHE {tmp_path}/cache cannot be written to" in cache


def test_the_home_and_the_temporary_folder(tmp_path):
    code = "from otter_ray.doctor.finding import examine; from otter_ray.doctor.machine import user_folders\n"
    code += "for each in examine(user_folders): print(each.level, each.text)"

    def examined(**environment):
        line = [sys.executable, "-c", code]
        env = {**os.environ, "HOME": str(tmp_path), **environment}
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as short:
        assert examined(TMPDIR=short) == [f"ok TMPDIR {short}", f"ok HOME {tmp_path}"]
    (tmp_path / "a b").mkdir()
    named, _ = examined(TMPDIR=str(tmp_path / "a b"))
    assert named.startswith(f"ok TMPDIR {tmp_path}/a b contains a space")
    assert ": used through /tmp/otter_ray-" in named
    assert examined(TMPDIR="/proc", HOME="/proc") == [
        "warning HOME: /proc cannot be written to (No such file or directory): Ray's token is kept in "
        f"/tmp/otter_ray-{os.getuid()} and pretrained weights nowhere. Set HOME, or HF_HOME and "
        "OTTER_RAY_CACHE.",
        "warning TMPDIR: '/proc' cannot be written to (No such file or directory). Using /tmp instead.",
    ]


def test_folders_of_a_config_and_of_what_is_searched(tmp_path):
    for name in ("full", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "image.png").touch()
    space = SPACE.format(first=tmp_path / "full", second=tmp_path / "empty")
    (tmp_path / "space.yaml").write_text(space)
    config = load_config("demo").with_values(
        {
            "dataset.train_options.options": {"root": str(tmp_path / "full"), "imagenet_root": "/absent"},
            "model.backbone.options.checkpoint_path": str(tmp_path / "full" / "image.png"),
        }
    )
    wanted = data_paths(config, SearchProblem(config, load_space(str(tmp_path / "space.yaml"))))
    train = "dataset.train_options.options"
    assert wanted == {
        f"{train}.root": str(tmp_path / "full"),
        f"{train}.imagenet_root": "/absent",
        "model.backbone.options.checkpoint_path": str(tmp_path / "full" / "image.png"),
        f"{train}.root (searched)": str(tmp_path / "empty"),
    }
    findings = [*paths(wanted)]
    assert of_level(findings, "ok")[0] == f"{train}.root: {tmp_path}/full, 1 entry"
    absent, empty = of_level(findings, "error")
    assert absent.startswith(f"{train}.imagenet_root: there is no /absent. Mount or fetch it")
    assert empty.startswith(f"{train}.root (searched): {tmp_path}/empty is empty. Fill it")


def test_a_class_path_is_no_file(tmp_path):
    (tmp_path / "plain.yaml").write_text(
        "project: lightning\n"
        "model: {class_path: my_pkg.Lit, init_args: {vocabulary_path: /absent/words.txt}}\n"
        "data: {class_path: my_pkg.Data}\n"
        "trainer: {max_epochs: 1}\n"
        "metric: val_acc\n"
    )
    wanted = data_paths(load_config(str(tmp_path / "plain.yaml")), None)
    assert wanted == {"model.init_args.vocabulary_path": "/absent/words.txt"}


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(401)
        self.end_headers()


@pytest.fixture
def endpoint(monkeypatch):
    """Sets where the hub is; by default nothing says that it is not to be asked."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return lambda port: monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


def test_a_hub_that_answers(endpoint):
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        endpoint(server.server_port)
        (finding,) = hub(load_config("demo").with_sets(["model.backbone.options.pretrained=true"]))
    assert finding.level == "ok"
    assert finding.text.endswith("answers (model.backbone.options.pretrained)")


def test_a_hub_that_is_silent_costs_seconds_and_warns(endpoint):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint(silent.getsockname()[1])
        started = time.monotonic()
        (finding,) = hub(None)
    assert time.monotonic() - started < 10
    assert finding.level == "warning"
    assert "pretrained weights must be in ~/.cache/huggingface" in finding.text
    assert "HF_HUB_OFFLINE=1" in finding.text


def test_a_hub_that_is_not_asked(endpoint, monkeypatch):
    assert [*hub(load_config("demo"))] == [ok("demo asks for no pretrained weights")]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    endpoint(9)
    (finding,) = hub(load_config("demo").with_sets(["common.use_clip=true"]))
    assert finding.level == "ok"
    assert "the weights that common.use_clip asks for must be in" in finding.text


def test_a_precision_that_is_for_gpus():
    (finding,) = precision(load_config("demo").with_sets(["trainer.precision=16-mixed"]))
    assert "trainer.precision 16-mixed is for GPUs" in finding.text
    assert [*precision(load_config("demo"))] == []


def test_a_token_that_others_can_read():
    with tempfile.TemporaryDirectory() as home:
        token = Path(home) / ".ray" / "auth_token"
        token.parent.mkdir(0o755)
        token.touch(0o644)
        assert not _is_open(token)  # the home is its owner's alone
        Path(home).chmod(0o755)
        assert _is_open(token) is all(folder.stat().st_mode & 0o011 for folder in Path(home).parents)
        token.chmod(0o600)
        assert not _is_open(token)


def test_a_storage_that_cannot_be_used(tmp_path):
    """No folder; an object store that is not there; one that is well."""

    def examined(storage):
        diagnosis = Diagnosis("demo", None, [], None, storage, tmp_path / "runs")
        return examine(diagnosis.reach)

    assert examined(str(tmp_path)) == [ok(f"this machine reads and writes {tmp_path}")]
    assert list(tmp_path.iterdir()) == []
    (finding,) = examined(str(tmp_path / "typo"))
    assert finding == error(f"--storage {tmp_path}/typo is not a folder. Mount it, or create it.")
    assert not (tmp_path / "typo").exists()
    (finding,) = examined("nfs://somewhere/runs")
    assert (finding.level, "cannot be used" in finding.text) == ("error", True)


def test_a_config_without_a_space_can_be_trained(tmp_path):
    lone = tmp_path / "lone.yaml"
    lone.write_text(find_config("demo").read_text())
    diagnosis = Diagnosis(str(lone), None, [], None, None, tmp_path)
    (finding,) = examine(diagnosis.load)
    assert finding.level == "warning"
    assert "otter_ray.train works without one" in finding.text
    assert examine(diagnosis.fit) == [ok("lone: every class accepts its options")]


@pytest.fixture
def examined(tiny_sets, tmp_path):
    """What a diagnosis says of the tiny config with these sets and this space, by topic."""

    def run(*sets, space="demo", topics=("fit", "models", "data", "read")):
        every = [*tiny_sets[1::2], *sets]
        diagnosis = Diagnosis("demo", str(space), every, None, None, tmp_path / "runs")
        return {topic: examine(getattr(diagnosis, topic), 100) for topic in ("load", *topics)}

    return run


def test_what_a_study_would_start_with_is_well(examined):
    found = examined()
    assert {finding.level for findings in found.values() for finding in findings} == {"ok", "warning"}
    assert found["models"] == [ok("every model that can be reached (2) trains a step and can be exported")]
    assert len(of_level(found["read"], "warning")) == 1  # both held-out sets are small
    (text,) = of_level(found["read"], "ok")
    assert text.endswith("24 images of 4 classes to validate with, 20 images of 5 classes to test with")


VALID = "dataset.valid_options"


def test_data_that_a_study_would_refuse(examined, folder):
    """None at all, and a flat folder for a set that wants one folder for each document."""
    topics = "fit", "data", "read"
    found = examined("dataset.train_options.options.drawn=0", topics=topics)
    (text,) = of_level(found["read"], "error")
    assert "Set exactly one of dataset.train_options.options.root" in text
    flat = folder / "class_0"
    real = f"{VALID}={{name: RealDataset, options: {{root: {flat}}}}}"
    found = examined(real, topics=topics)
    assert of_level(found["data"], "error") == []
    (text,) = of_level(found["read"], "error")
    assert f"{VALID}.options.root is '{flat}', but images must be in at least two subfolders" in text


def test_a_model_that_a_study_would_refuse(examined):
    found = examined("onnx.wrapper_options.channels=rbg", topics=["fit", "models"])
    assert "'rbg' is not an order of colour channels" in of_level(found["models"], "error")[0]


def test_the_plan_of_a_grid_is_that_of_the_study(examined, tmp_path):
    space = tmp_path / "grid.yaml"
    space.write_text(
        "parameters:\n  model.loss.options.s: {type: categorical, choices: [12, 16]}\n"
        "study: {num_trials: 64, sampler: {name: GridSampler}}\n"
    )
    texts = of_level(examined(space=space, topics=["fit"])["fit"], "ok")
    assert "2 trials on" in texts[0]
    assert texts[1] == "GridSampler: the grid is done after 2 trials, not 64"
