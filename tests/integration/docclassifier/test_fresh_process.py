"""What is drawn, augmented and photographed is the same in every process: a digest of each part tells."""

import hashlib
import json
import os
import subprocess
import sys

from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset
from otter_ray.projects.docclassifier.data.training_set import SynthDataset
from otter_ray.vision.drawing import draw_document

THERE = f"import json, runpy; print(json.dumps(runpy.run_path({__file__!r})['digests']()))"


def digests():
    """SHA-256 of drawn documents, items and captures, as this process makes them."""
    items = SynthDataset((32, 32), drawn=30, length_of_dataset=90)
    items.set_epoch(2)
    parts = {
        "documents": [draw_document(index, seed=3) for index in range(60)],
        "items": [items[index][0].numpy() for index in range(60)],
        "captures": list(CaptureDataset((32, 32), drawn=30, held_out=6, captures=4).images),
    }
    return {
        name: hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        for name, arrays in parts.items()
    }


def test_documents_items_and_captures_are_the_same_in_a_fresh_process(tmp_path):
    surroundings = os.environ | {"OTTER_RAY_CACHE": str(tmp_path), "PYTHONHASHSEED": "5"}
    line = [sys.executable, "-c", THERE]
    done = subprocess.run(line, env=surroundings, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == digests()
