from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from otter_ray.config import find_config, find_space, load_config, lookup
from otter_ray.errors import ConfigError, Problem


def line_of(text: str, start: str) -> int:
    """The line that starts with `start`, spaces aside."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if line.strip().startswith(start))


def test_needs_neither_torch_nor_ray_nor_optuna():
    heavy = ["torch", "ray", "lightning", "optuna", "numpy"]
    code = f"import sys, otter_ray.config; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_seed_loads_unchanged(seed, seed_text):
    written = yaml.safe_load(seed_text)
    loaded = seed.to_dict()
    for section, values in written.items():
        for key, value in values.items() if isinstance(values, dict) else []:
            if section != "onnx" or key != "dynamic_axes":
                assert loaded[section][key] == value, (section, key)
    assert [callback["name"] for callback in loaded["callbacks"]] == [c["name"] for c in written["callbacks"]]
    assert loaded["onnx"]["dynamic_axes"] == written["onnx"]["dynamic_axes"]
    assert (loaded["project"], seed.name) == ("docclassifier", "seed")


@pytest.mark.parametrize(
    ("change", "key", "line", "says"),
    [
        (
            ("max_epochs: 40", "max_epochs: ten"),
            "trainer.max_epochs",
            "max_epochs",
            "'ten' is not an integer. Give a whole number >= 1.",
        ),
        (
            ("max_epochs: 40", "max_epochs: 0"),
            "trainer.max_epochs",
            "max_epochs",
            "0 is too small. Give a whole number >= 1.",
        ),
        (("max_epochs: 40", ""), "trainer.max_epochs", "trainer:", "is missing. Give a whole number >= 1."),
        (
            ("batch_size: 1024", "batch_sise: 1024"),
            "common.batch_sise",
            "batch_sise",
            "Did you mean 'batch_size'",
        ),
        (("is_restore: False", "is_restore: 1"), "common.is_restore", "is_restore", "Give true or false."),
        (('restore_ind: ""', "restore_ind: 20.24"), "common.restore_ind", "restore_ind", "20.24 is not text"),
        (
            ("num_workers: 24", "num_workers: -2"),
            "dataloader.train_options.num_workers",
            "num_workers",
            ">= 0",
        ),
        (("name: CosFace", "nam: CosFace"), "model.loss.name", "loss:", "is missing. Give a name."),
    ],
)
def test_a_fault_is_named_with_line_and_remedy(config_faults, seed_text, *, change, key, line, says):
    text = seed_text.replace(*change, 1)
    fault = next(fault for fault in config_faults(text) if fault.key == key)
    assert fault.line == line_of(text, line)
    assert fault.file.endswith("written.yaml")
    assert says in fault.message


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("      in_dim: 256", "      dropout: 0.1", None),
        ("  head:\n", "  heads: {name: X}\n  head:\n", "model.heads"),
        ("    name: Backbone\n", "    name: Backbone\n    width: 2\n", "model.backbone.width"),
        ("    num_classes: -1", "    num_classes: [1, 2]", "model.loss.num_classes"),
        ("    embed_dim: 256\n\n", "    embed_dim: 256\n    m: 0.2\n\n", "model.loss"),
        ("    batch_size: -1", "    batch_size: 0", "dataloader.train_options.batch_size"),
        ("  - name: LearningRateMonitor", "  - name: 3", "callbacks.1.name"),
        ("logger:\n  name", "loger:\n  name", "loger"),
        ("shape: [1, 3, 128, 128]", "shape: [1, 3, 128, 0]", "onnx.input_shape.img.shape"),
        ("  output_names:\n    - feats", "  output_names: feats", "onnx.output_names"),
        (
            "  pl_options:\n    monitor: loss\n    interval: step",
            "  pl_options: step",
            "lr_scheduler.pl_options",
        ),
    ],
)
def test_every_section_is_guarded(write, config_faults, seed_text, *, old, new, key):
    assert old in seed_text
    text = seed_text.replace(old, new, 1)
    if key is None:
        assert load_config(write(text)).has("model.head.options.dropout")
    else:
        assert [fault.key for fault in config_faults(text)] == [key]


def test_the_trainer_and_free_mappings_take_further_keys(write, seed_text):
    text = seed_text.replace("  max_epochs: 40", "  max_epochs: 40\n  deterministic: true", 1)
    config = load_config(
        write(text), ["dataloader.train_options.pin_memory=true", "onnx.wrapper_options.a.b=1"]
    )
    assert config.get("trainer.deterministic") is True
    assert config.dataloader.train_options["pin_memory"] is True
    assert config.get("onnx.wrapper_options") == {"a": {"b": 1}}


@pytest.mark.parametrize("section", ["global_settings", "onnx", "callbacks", "logger", "lr_scheduler"])
def test_optional_sections_may_be_absent(write, seed_text, section):
    data = yaml.safe_load(seed_text)
    del data[section]
    config = load_config(write(yaml.safe_dump(data)))
    assert getattr(config, section) == ([] if section == "callbacks" else None)


@pytest.mark.parametrize("section", ["common", "trainer", "model", "dataset", "dataloader", "optimizer"])
def test_the_other_sections_must_be_there(config_faults, seed_text, section):
    data = yaml.safe_load(seed_text)
    del data[section]
    assert [(f.key, f.line, "Add the section" in f.message) for f in config_faults(yaml.safe_dump(data))] == [
        (section, 1, True)
    ]


def test_image_sizes_must_agree(config_faults, seed_text):
    (fault,) = config_faults(seed_text, "onnx.input_shape.img.shape.3=96")
    assert "common.image_size is [128, 128]" in fault.message
    assert "global_settings.image_size is [128, 128]" in fault.message
    assert "onnx.input_shape.img.shape is [1, 3, 128, 96]" in fault.message


def test_all_problems_at_once_and_sets_are_told_from_the_file(config_faults, seed_text):
    text = seed_text.replace("preview_batch", "preview_bach").replace(
        "optimizer:\n", "optimizer:\n  opts: 1\n"
    )
    faults = config_faults(
        text, "trainer.max_epochs=ten", "model.los.name=X", "callbacks.9.name=X", "nonsense", "a=@"
    )
    places = {fault.key: (Path(fault.file).name, fault.line) for fault in faults}
    assert places == {
        "common.preview_bach": ("written.yaml", line_of(text, "preview_bach")),
        "optimizer.opts": ("written.yaml", line_of(text, "opts")),
        "trainer.max_epochs": ("--set", None),
        "model.los": ("--set", None),
        "callbacks.9.name": ("--set", None),
        "nonsense": ("--set", None),
        "a": ("--set", None),
    }
    assert "Did you mean 'loss'" in next(fault.message for fault in faults if fault.key == "model.los")


def test_sets_are_yaml_values(write, seed_text):
    sets = [
        "optimizer.options.lr=1e-3",
        "trainer.devices=[0, 1]",
        "callbacks.0.options.monitor=loss",
        "model.loss.margin=0.1",
        "logger=",
        "trainer.precision=bf16-mixed",
    ]
    config = load_config(write(seed_text), sets)
    assert config.optimizer.options["lr"] == 0.001
    assert config.trainer.devices == [0, 1]
    assert config.callbacks[0].options["monitor"] == "loss"
    assert config.model.loss.arguments == {
        "s": 64,
        "m": 0.4,
        "num_classes": -1,
        "embed_dim": 256,
        "margin": 0.1,
    }
    assert config.logger is None
    assert config.trainer.precision == "bf16-mixed"


@pytest.mark.parametrize(
    "text",
    [
        "common.batch_size.x=1",
        "common..x=1",
        "=1",
        "callbacks.-1.name=X",
        f"onnx.options{'.a' * 40}=1",
        f"onnx.options{'.a' * 3000}=1",
        f"onnx.options{'.a' * 20}={'[' * 20}{']' * 20}",
        "onnx.options.\udcff=1",
    ],
)
def test_sets_that_cannot_be_put(config_faults, seed_text, text):
    (fault,) = config_faults(seed_text, text)
    assert (fault.file, fault.key) == ("--set", text.partition("=")[0] or "''")


def test_a_key_without_a_letter_is_seen(config_faults, seed_text):
    assert [fault.key for fault in config_faults(f"'': 1\n{seed_text}")] == ["''"]


def test_a_key_that_looks_like_pydantics_mark_is_a_key(config_faults, seed_text):
    assert [fault.key for fault in config_faults(seed_text, "[key]=1", "model.[key]=1")] == [
        "model.[key]",
        "[key]",
    ]


@pytest.mark.parametrize("shipped", ["checkout/configs", "checkout/otter_ray/configs"])
def test_lookup_by_path_then_here_then_what_comes_with_the_package(tmp_path, monkeypatch, shipped):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lookup, "PACKAGE", tmp_path / "checkout/otter_ray")
    for folder, names in {"configs": ["one"], shipped: ["one", "demo"]}.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / f"{name}.yaml").touch()
    (tmp_path / "demo.yaml").touch()
    assert find_config("one") == Path("configs/one.yaml")
    assert find_config("demo") == tmp_path / shipped / "demo.yaml"
    assert find_config("demo.yaml") == Path("demo.yaml")
    with pytest.raises(ConfigError, match=r"Did you mean 'demo'\?.*There are: demo, one\."):
        find_config("demmo")
    with pytest.raises(ConfigError, match=r"no search space 'demo'.*There are none\..*holds search_spaces/"):
        find_space("demo")


@pytest.mark.parametrize("name", ["", "\0", "x" * 5000, ".", "/"])
def test_impossible_names(name):
    with pytest.raises(ConfigError, match="no config"):
        find_config(name)


@pytest.mark.parametrize(
    ("key", "value", "refused"),
    [
        ("logger.options.api_key", "abc", True),
        ("callbacks.0.options.wandb_token", "abc", True),
        ("optimizer.options.aws_secret_access_key", "abc", True),
        ("logger.options.private_key", "abc", True),
        ("logger.options.wandb_key", "0123456789abcdef0123", True),
        ("logger.options.tags", "[first, AKIAIOSFODNN7EXAMPLE]", True),
        ("logger.options.url", "https://bucket/a?X-Amz-Signature=0123456789abcdef0123", True),
        ("dataset.train_options.options.root", "s3://user:word@bucket/documents", True),
        ("dataset.train_options.options.root", "s3://bucket/documents", False),
        ("model.head.options.num_tokens", 3, False),
        ("model.head.options.tokenizer", "bpe", False),
        ("model.head.options.key", "value", False),
        ("model.head.options.sort_key", "name", False),
    ],
)
def test_secrets_do_not_belong_into_a_config(key, value, refused):
    sets = [f"{key}={value}"]
    if not refused:
        load_config("demo", sets)
        return
    with pytest.raises(ConfigError, match=rf"{key}[.\d]*: looks like a secret") as caught:
        load_config("demo", sets)
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("study.num_trials", "study.num_trials"),
        ("parameters.lr", "parameters.lr"),
        ("resources.cpus_per_worker", "study.resources.cpus_per_worker"),
    ],
)
def test_a_key_of_the_search_space_cannot_be_set(key, right):
    with pytest.raises(ConfigError, match=rf"{key}: is a key of the search space, .* --set-space {right}="):
        load_config("demo", [f"{key}=3"])


def test_problems_are_sorted_by_line():
    """Those of one file by line, those of `--set` together; files in the order in which they came up."""
    problems = [
        Problem("b", "x", "one.yaml", 12),
        Problem("s", "x", "--set"),
        Problem("a", "x", "one.yaml", 8),
        Problem("c", "x", "two.yaml", 3),
        Problem("d", "x", "one.yaml", 8),
    ]
    assert [found.key for found in ConfigError(problems).problems] == ["a", "d", "b", "s", "c"]


def test_a_missing_part_of_the_model_names_the_page(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump({**load_config("demo").to_dict(), "model": {"name": "Plain"}}))
    with pytest.raises(
        ConfigError, match=r"model.backbone: is missing\. Add .* see docs/reference/project\.md\."
    ):
        load_config(str(path))
