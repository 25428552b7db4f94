"""The vendor's MRZScanner on files of ours: what it reads, and where it finds the zone."""

import capybara
import mrzscanner
import numpy as np
from main import main
from mrzscanner.det import Inference as Detection
from mrzscanner.rec import Inference as Recognition

STAGES = {"detection": Detection, "recognition": Recognition, "spotting": mrzscanner.SpottingInference}


def answers(job):
    """Ask for each image: its lines, joined with line breaks, and the corners of its zone."""
    for stage, (model, size) in job["models"].items():
        STAGES[stage].configs["ours"] = {"model_path": model, "file_id": "", "img_size_infer": size}
    ours = {f"{stage}_cfg": "ours" for stage in job["models"]}
    client = mrzscanner.MRZScanner(model_type=job["kind"], **ours)
    found = [client(capybara.imread(file), do_postprocess=False) for file in job["images"]]
    polygons = [
        np.reshape(one["mrz_polygon"], (-1, 2)) if one["mrz_polygon"] is not None else [] for one in found
    ]
    return {
        "texts": np.array(["\n".join(one["mrz_texts"] or []) for one in found]),
        "polygons": np.array(
            [each if len(each) == 4 else np.full((4, 2), np.nan) for each in polygons], float
        ),
    }


main(answers)
