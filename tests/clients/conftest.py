"""The clients' own environment, and how a test asks a client."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

SWITCH = "OTTER_RAY_CLIENTS"
INSIDE = Path(__file__).parent / "inside"
# Newer ones do not work together; without their dependencies, which ask for a GPU's onnxruntime.
CLIENTS = (
    "capybara-docsaid==0.12.0",
    "docaligner-docsaid==1.1.1",
    "docclassifier-docsaid==0.10.1",
    "mrzscanner-docsaid==1.0.7",
)
NEEDED = (
    "beautifulsoup4", "colored", "dacite", "dill", "flask", "matplotlib", "natsort", "networkx", "numpy<2.3",
    "onnx", "onnxruntime", "onnxslim", "opencv-python-headless<5", "pdf2image", "piexif", "pillow-heif",
    "psutil", "pybase64", "pyyaml", "requests", "shapely", "tqdm", "ujson",
)  # fmt: skip
# capybara makes one of these when it is imported, which needs a library of the system. Images here are PNG.
TURBOJPEG = '''"""In place of PyTurboJPEG, which no test here uses."""


class TurboJPEG:
    """Reads nothing."""
'''


def environment_folder():
    """Where the environment is: another one for other packages."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = "\n".join([*CLIENTS, *NEEDED, TURBOJPEG, sys.version])
    return cache / "otter_ray" / f"clients-{hashlib.sha256(versions.encode()).hexdigest()[:12]}"


def install(folder):
    """Make the environment. Raises CalledProcessError if a package cannot be had."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for line in ([*pip, "--no-deps", *CLIENTS], [*pip, *NEEDED]):
        subprocess.run(line, check=True, capture_output=True, text=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout
    packages = Path(found.strip())
    (packages / "turbojpeg.py").write_text(TURBOJPEG)
    # When it is imported, capybara downloads this font unless it is there.
    font = packages / "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"
    (packages / "capybara/vision/visualization/NotoSansMonoCJKtc-VF.ttf").write_bytes(font.read_bytes())
    (folder / "ready").touch()


@pytest.fixture(scope="session")
def client_python():
    """The Python of the clients' environment."""
    if os.environ.get(SWITCH) != "1":
        pytest.skip(f"the vendor's clients are tested by make test-clients ({SWITCH}=1)")
    folder = environment_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            try:
                install(folder)
            except subprocess.CalledProcessError as exc:
                last = ((exc.stderr or "").strip() or "pip failed").splitlines()[-1]
                pytest.skip(f"the vendor's clients cannot be installed: {last}")
    return folder / "bin/python"


@pytest.fixture
def ask(client_python, tmp_path):
    """Runs `inside/ask_NAME.py` on a job, and gives the arrays that it answers."""

    def run(name, **job):
        question, answer = tmp_path / f"{name}.json", tmp_path / f"{name}.npz"
        question.write_text(json.dumps(job, default=str))
        line = [client_python, INSIDE / f"ask_{name}.py", question, answer]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        with np.load(answer) as arrays:
            return dict(arrays)

    return run


@pytest.fixture
def write_images(tmp_path):
    """Writes float RGB images `[3, h, w]` in [0, 1] as PNG files, and gives their paths."""

    def write(images):
        files = []
        for number, image in enumerate(images):
            pixels = (np.asarray(image).transpose(1, 2, 0) * 255).round().astype(np.uint8)
            files.append(tmp_path / f"{number:04d}.png")
            assert cv2.imwrite(str(files[-1]), pixels[..., ::-1])
        return files

    return write


@pytest.fixture(scope="session")
def assert_json_metadata():
    """Fails unless every value of a file's metadata is JSON: the clients parse each when they open it."""

    def check(file):
        values = {prop.key: json.loads(prop.value) for prop in onnx.load(str(file)).metadata_props}
        assert {"config", "metric", "date", "gate", "channels"} <= values.keys()

    return check
