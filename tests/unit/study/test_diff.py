"""What a study is about, as its folder records it."""

import os
import subprocess
import sys

from otter_ray.config import load_config

RECORD = """
import sys
from pathlib import Path
from otter_ray.config import load_config
from otter_ray.space import SearchProblem, load_space
from otter_ray.study.diff import check_or_record
from otter_ray.study.layout import StudyFolder
config = load_config("demo").with_values({"dataset.train_options.options.root": "/\\u5c08\\u6848"})
check_or_record(StudyFolder(Path(sys.argv[1])), SearchProblem(config, load_space("demo")), False)
"""


def test_a_config_is_recorded_whatever_the_locale(tmp_path):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", RECORD, tmp_path], env=environment, check=True)
    recorded = load_config(str(tmp_path / "config.yaml"))
    assert recorded.get("dataset.train_options.options.root") == "/專案"
