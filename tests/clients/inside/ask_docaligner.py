"""The vendor's DocAligner on a file of ours: the corners that its two classes find."""

import capybara
import docaligner
import numpy as np
from capybara.structures.functionals import jaccard_index
from main import main

MISSING = np.full((4, 2), np.nan)


def corners(client, image):
    """What a client finds, if it finds all four."""
    found = client(image)
    return found if found.shape == (4, 2) else MISSING


def answers(job):
    """Find the corners in each image, and score those by the vendor's own index."""
    own = {"model_path": job["model"], "file_id": "", "img_size_infer": tuple(job["size"])}
    docaligner.HeatmapRegInference.configs["ours"] = own
    docaligner.PointRegInference.configs["ours"] = own
    heatmap, point = (
        docaligner.DocAligner(model_type=kind, model_cfg="ours") for kind in ("heatmap", "point")
    )
    images = [capybara.imread(file) for file in job["images"]]
    found = [corners(heatmap, image) for image in images]
    scores = [
        0.0 if np.isnan(each).any() else jaccard_index(each, np.array(true), image.shape[:2])
        for each, true, image in zip(found, job["truth"], images, strict=True)
    ]
    return {
        "heatmap": np.stack(found),
        "point": np.stack([corners(point, image) for image in images]),
        "jaccard": np.array(scores),
    }


main(answers)
