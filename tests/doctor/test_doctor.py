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

from otter_ray.config import load_config, load_space
from otter_ray.config.lookup import find_config
from otter_ray.doctor.case import Case, _is_open
from otter_ray.doctor.finding import error, examine, ok, warning
from otter_ray.doctor.machine import packages
from otter_ray.doctor.needs import data_paths, hub, paths, precision
from otter_ray.errors import StudyError

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
    assert "level='error', text='--runs runs/CONFIG/STUDY: 0.2 of 0.2 GiB free. Make room" in runs
    assert f"level='error', text='OTTER_RAY_CACHE {tmp_path}/cache cannot be written to" in cache


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
    wanted = data_paths(config, load_space(str(tmp_path / "space.yaml")))
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
        case = Case("demo", None, [], None, storage, tmp_path / "runs")
        return examine(case.reach)

    assert examined(str(tmp_path)) == [ok(f"this machine reads and writes {tmp_path}")]
    assert list(tmp_path.iterdir()) == []
    (finding,) = examined(str(tmp_path / "typo"))
    assert finding == error(f"--storage {tmp_path}/typo is no folder. Mount it, or make it.")
    assert not (tmp_path / "typo").exists()
    (finding,) = examined("nfs://somewhere/runs")
    assert (finding.level, "cannot be used" in finding.text) == ("error", True)


def test_the_command_tells_everything_at_once(tmp_path):
    wrong = ["trainer.accelerator=gpu", "dataset.train_options.options.root=/absent"]
    sets = [part for text in wrong for part in ("--set", text)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "RAY_AUTH_MODE": "disabled",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    line = [sys.executable, "-m", "otter_ray.doctor", "demo", *sets, "--runs", tmp_path / "runs"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    gpu = "trainer.accelerator: 'gpu' but no GPU is visible. Set it to 'auto'"
    assert f"error   config    --set: {gpu}" in done.stdout
    assert "error   data      dataset.train_options.options.root: there is no /absent" in done.stdout
    assert "warning ray       RAY_AUTH_MODE is disabled" in done.stdout
    assert "ok      packages  Python 3." in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 errors, 1 warning")
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_config_without_a_space_can_be_trained(tmp_path):
    lone = tmp_path / "lone.yaml"
    lone.write_text(find_config("demo").read_text())
    case = Case(str(lone), None, [], None, None, tmp_path)
    (finding,) = examine(case.load)
    assert finding.level == "warning"
    assert "otter_ray.train works without one" in finding.text
    assert examine(case.fit) == [ok("lone: every class takes its options")]
