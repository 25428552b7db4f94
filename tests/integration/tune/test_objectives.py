"""A real study of several objectives and constraints."""

import json

from ray.util.state import list_actors

from otter_ray.tune.constraints import ModelStatsCache
from tests.support.commands import SECRETS

SPACE = """
parameters:
  model.backbone.options.name: {type: categorical, choices: [lcnet_035, lcnet_050, lcnet_075]}
  optimizer.options.lr: {type: float, low: 1.0e-3, high: 1.0e-2}
"""


def test_a_real_study_exports_its_best_under_their_own_names(
    tune_here, open_ray, tiny_sets, tiny_config, tmp_path
):
    middle = tiny_config.with_values({"model.backbone.options.name": "lcnet_050"})
    limit = ModelStatsCache(["macs"]).of(middle)["macs"]
    (tmp_path / "sizes.yaml").write_text(
        SPACE + f"study: {{num_trials: 3, objectives: {{macs: min}}, constraints: [macs <= {limit}]}}\n"
    )
    arguments = [*tiny_sets, "--space", "sizes.yaml", "--name", "sizes"]
    code, output = tune_here("demo", *arguments, "--export", "top2", folder=tmp_path)
    assert code == 0, output
    # What Ray's dashboard shows of the slots: nothing that only the driver's environment holds.
    slots = [str(actor) for actor in list_actors(open_ray.address, detail=True, limit=1000)]
    assert any("demo/sizes" in slot for slot in slots)
    assert not [slot for slot in slots if any(secret in slot for secret in SECRETS.values())]
    folder = tmp_path / "runs/demo/sizes"
    assert "pre-flight: 3 models, all exportable" in output
    assert "(*: the Pareto front with macs)" in output
    [winner] = folder.glob("demo_*_fp32.onnx")
    [other] = folder.glob("exports/demo_*_fp32.onnx")
    assert winner.name == (folder / "MODEL.md").read_text().split()[1]
    assert other.stem.split("_")[2].startswith("trial")
    assert other.with_suffix(".md").is_file()
    [known] = [json.loads(path.read_text()) for path in folder.glob("figures.json")]
    assert len(known["figures"]) == 3
    # Nothing is tried, nothing is measured again, and the rest of the front can be had later.
    code, output = tune_here("demo", *arguments, "--export", "pareto", "--resume", folder=tmp_path)
    assert code == 0, output
    assert "pre-flight" not in output
    assert "gate passed" in output
