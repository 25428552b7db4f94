"""What the templates of projects compute."""

from importlib.util import module_from_spec, spec_from_file_location

import torch
from torch.overrides import TorchFunctionMode

from otter_ray.init.project import TEMPLATE


class Largest(TorchFunctionMode):
    """Keeps how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_retrieval_compares_a_few_rows_at_once():
    spec = spec_from_file_location("embedding_template", TEMPLATE / "embedding/my_project/model.py")
    template = module_from_spec(spec)
    spec.loader.exec_module(template)
    template.ROWS_AT_ONCE = 16
    torch.manual_seed(0)
    outputs = torch.nn.functional.normalize(torch.randn(100, 4))
    labels = torch.randint(0, 3, (100,))
    nearest = (outputs @ outputs.T).fill_diagonal_(-2.0).argmax(dim=1)
    with Largest() as largest:
        scores = template.EmbeddingModel.score(None, outputs, labels)
    assert scores == {"valid_retrieval": (labels[nearest] == labels).double().mean().item()}
    assert largest.numbers == 16 * 100
