import json
import os
from importlib import metadata

import torch

from otter_ray.config import load_config
from otter_ray.train.builders import build_model
from otter_ray.train.record import model_figures, write_environment


def test_the_environment(tmp_path):
    write_environment(tmp_path)
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["packages"]["torch"] == metadata.version("torch")
    assert {"ray", "lightning", "timm", "albumentations"} < facts["packages"].keys()
    assert facts["system"]["cpus"] == os.cpu_count()
    assert facts["system"]["memory_bytes"] > 10**9
    assert facts["cuda"] == torch.version.cuda
    assert len(facts["gpus"]) == torch.cuda.device_count()
    assert facts["command"]


def test_of_a_package_that_is_there_twice_the_first_is_imported(tmp_path, monkeypatch):
    for folder, text in (
        ("first", "Name: twice\nVersion: 1\n"),
        ("second", "Name: twice\nVersion: 2\n"),
        ("third", "Version: 3\n"),  # broken: it has no name
    ):
        about = tmp_path / folder / f"{folder}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\n{text}")
        monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.syspath_prepend(tmp_path / "first")
    write_environment(tmp_path)
    assert json.loads((tmp_path / "environment.json").read_text())["packages"]["twice"] == "1"


def test_secrets_of_the_command_are_struck_out(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted/secret+key")
    line = [
        "python",
        "--storage",
        "s3://AKIA123:planted2@bucket/runs",
        "--set",
        "logger.options.api_key=planted3",
    ]
    monkeypatch.setattr(
        "sys.orig_argv", [*line, "--set", "common.seed=7", "s3://b?secret_key=planted/secret+key"]
    )
    write_environment(tmp_path)
    text = (tmp_path / "environment.json").read_text()
    assert "planted" not in text
    assert "AKIA123" not in text
    assert all(part in text for part in ("s3://***@bucket/runs", "api_key=***", "common.seed=7"))


class Hand(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.line = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.nn.Linear(4, 5)

    def forward(self, img):
        return self.line(self.conv(img).mean(dim=(2, 3)))


def test_figures_that_can_be_counted_by_hand():
    model = Hand().train()
    macs = 32 * 32 * 4 * 3 * 9 + 4 * 5
    parameters = 4 * 3 * 9 + 4 * 5 + 5
    found = model_figures(model, [torch.rand(1, 3, 32, 32)])
    assert found == {"flops": 2 * macs, "macs": macs, "parameters": parameters}
    assert model.training


def test_a_lone_run_writes_both(tiny_run):
    assert (tiny_run.folder / "environment.json").is_file()
    figures = json.loads((tiny_run.folder / "model.json").read_text())
    model = build_model(load_config(str(tiny_run.folder / "config.yaml")))
    assert figures["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert figures["parameters_of"].keys() == {"backbone", "head", "loss"}
    assert sum(figures["parameters_of"].values()) == figures["parameters"]
    assert figures["flops"] == 2 * figures["macs"] > 0
