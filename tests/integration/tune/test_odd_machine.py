"""A study on a machine where nearly everything is odd, by people who do not write English."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from otter_ray.init.project import create_project
from otter_ray.study.journal import newest_study, open_journal
from otter_ray.study.trials import read_records

PROJECT, STUDY, CLASS, OTHER, PHOTOS = "專案", "übung", "Rückgrat", "骨幹", "Bilder 影像"
# A data set that also reads a folder of images.
DATA_SET = """

class Größe(Shapes):
    def __init__(self, image_size, *, root, **options):
        super().__init__(image_size, **options)
        from otter_ray.vision.images import load_images

        assert load_images(root, image_size, "root").names == ["é/ö.png"]
"""
# Less shared memory than a container has, and a temporary folder from which nothing can be started.
MOUNTS = """
mount -t tmpfs -o size=64m none /dev/shm
mount -t tmpfs -o noexec none "$1"
shift
exec "$@"
"""
# A user whom the machine does not know and who has no home, as in containers.
STRANGER = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
SMALL = {
    "trainer.max_epochs": 1,
    "trainer.accelerator": "cpu",
    "dataset.train_options.name": "Größe",
    "dataset.train_options.options.root": PHOTOS,
    "dataset.train_options.options.count": 64,
    "dataset.valid_options.options.count": 64,
    "dataloader.train_options.num_workers": 1,  # its process sends batches through a socket
}


@pytest.fixture
def project(tmp_path):
    """A project of names that are not ASCII: package, config, space, classes, choices, folders, images."""
    made, folder = tmp_path / "doodles", tmp_path / "ein Ordner"
    create_project("doodles", made)  # a name that no other test has imported
    words = {"doodles": PROJECT, "ConvBackbone": CLASS, f"import {CLASS}": f"import {OTHER}, {CLASS}"}
    for file in filter(Path.is_file, made.rglob("*")):
        target = folder / str(file.relative_to(made)).replace("doodles", PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text()
        for word, other in words.items():
            text = text.replace(word, other)
        target.write_text(text)
    with (folder / PROJECT / "model.py").open("a") as file:
        file.write(f"\n\nclass {OTHER}({CLASS}):\n    pass\n")
    with (folder / PROJECT / "data.py").open("a") as file:
        file.write(DATA_SET)
    names = folder / PROJECT / "__init__.py"
    names.write_text(names.read_text().replace("import Shapes", "import Größe, Shapes"))
    image = folder / PHOTOS / "é" / "ö.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(image)
    space = folder / "search_spaces" / f"{PROJECT}.yaml"
    choice = f"  model.backbone.name: {{type: categorical, choices: [{CLASS}, {OTHER}]}}\n\nstudy:"
    space.write_text(space.read_text().replace("\nstudy:", choice))
    yield folder
    shutil.rmtree("/tmp/otter_ray-54321", ignore_errors=True)


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
    reason="needs root, and namespaces of users and mounts",
)
def test_a_study_ends_well(project, tmp_path):
    temporary = tmp_path / "a b" / "über" / ("long" * 20)
    temporary.mkdir(parents=True)
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    study = ["--name", STUDY, "--runs", "läufe", "--storage", str(tmp_path / "storage ü"), "--trials", "2"]
    line = [sys.executable, "-m", "otter_ray.tune", PROJECT, *sets, *study]
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "PYTHONIOENCODING": "ascii",
        "COLUMNS": "200",
        "RAY_ADDRESS": "127.0.0.1:1",
        "CUDA_VISIBLE_DEVICES": "7,GPU-0,nonsense",
        **dict.fromkeys(
            ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"
        ),
    }
    environment.pop("HOME")

    def narrow():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", MOUNTS, "sh", temporary, *STRANGER, *line],
        cwd=project, env=environment, preexec_fn=narrow, capture_output=True, timeout=500, check=False,
    )  # fmt: skip
    output = (done.stdout + done.stderr).decode("ascii")
    assert done.returncode == 0, output
    assert "Traceback" not in output
    assert "shows nothing any more" not in output
    folder = project / "läufe" / PROJECT / STUDY
    assert (folder / "report.html").is_file()
    assert [file.suffix for file in folder.glob(f"{PROJECT}_*")] == [".onnx", ".json"]
    rows = read_records(newest_study(open_journal(folder / "study.journal")))
    assert [row.state for row in rows] == ["complete", "complete"]
    assert rows[1].values["model.backbone.name"] in (CLASS, OTHER)
    assert (tmp_path / "storage ü" / PROJECT / STUDY / "study.journal").read_bytes()
