"""The vendor's DocClassifier on a file of ours: embeddings, and what it recognises."""

import capybara
import numpy as np
from docclassifier import DocClassifier, MarginBasedInference
from main import main


def answers(job):
    """Embed the images, and compare each with those below the register's folder."""
    own = {"model_path": job["model"], "file_id": "", "img_size_infer": job["size"], "threshold": 0.0}
    MarginBasedInference.configs["ours"] = own
    client = DocClassifier(model_cfg="ours", register_root=job["register"])
    images = [capybara.imread(file) for file in job["images"]]
    found = [client(image) for image in images]
    return {
        "feats": np.stack([client.extract_feature(image) for image in images]),
        "names": np.array([name for name, _ in found]),
        "scores": np.array([score for _, score in found]),
    }


main(answers)
