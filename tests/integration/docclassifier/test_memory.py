"""What twenty thousand embeddings take."""

import subprocess
import sys

import pytest

LARGE = """
import torch
from pathlib import Path
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

torch.manual_seed(0)
labels = torch.arange(20_000) % 1_000
centres = torch.nn.functional.normalize(torch.randn(1_000, 64))
embeddings = centres[labels] + 0.1 * torch.randn(20_000, 64)
pair_roc(embeddings[:500], labels[:500])
before = peak()
roc = pair_roc(embeddings, labels)
print(peak() - before, roc.num_positives, roc.num_negatives, roc.tpr_at(1e-4)[0], roc.auc())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_twenty_thousand_embeddings_fit_in_a_gigabyte():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    grown, positives, negatives, rate, auc = map(float, done.stdout.split())
    assert (positives, negatives) == (1_000 * 190, 20_000 * 19_999 / 2 - 190_000)
    assert grown < 1e9
    assert 0.5 < rate <= 1
    assert 0.99 < auc <= 1
