"""PartialFC's centres, sharded over real processes, by gloo and by nccl."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from otter_ray.projects.docclassifier import ArcFace, CosFace
from otter_ray.train.torch_compat import exclude_from_ddp

S, M, DIM, CLASSES = 16.0, 0.3, 5, 7


def made(kind, **options):
    torch.manual_seed(0)
    return kind(**{"num_classes": CLASSES, "embed_dim": DIM, "s": S, "m": M, **options})


class Student(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(3, DIM)
        self.loss = made(kind, **options)
        if self.loss.rows < self.loss.num_classes:
            exclude_from_ddp(self, ["loss.weight"])

    def forward(self, values, labels):
        return self.loss(self.embed(values), labels)


def steps(student, values, labels, module):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    seen = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = module(values, labels)
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return seen, student.state_dict()


def whole_batch():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(12, 3, generator=generator), torch.randint(CLASSES, (12,), generator=generator)


def centres():
    return torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(4))


def rank_of_a_group(rank, ranks, kind, folder, backend="gloo"):
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    student = Student(kind).to(device)
    student.load_state_dict({**student.state_dict(), "loss.weight": centres()})
    values, labels = (part.chunk(ranks)[rank].to(device) for part in whole_batch())
    seen, state = steps(student, values, labels, DistributedDataParallel(student))
    sampled = Student(kind, num_classes=1000, sample_rate=0.1).to(device)
    sampled(values, labels * 100).backward()
    touched = sampled.loss.weight.grad.abs().sum(dim=1).nonzero().flatten() + sampled.loss.first
    with pytest.raises(ValueError, match=r"labels must be in \[0, 1000\)"):
        sampled(values, labels + 1000)
    with pytest.raises(ValueError, match="num_classes is 1 but"):
        made(kind, num_classes=1)
    end = {
        "losses": seen,
        "state": state,
        "touched": touched,
        "rows": (sampled.loss.first, sampled.loss.rows),
        "fresh": sampled.loss.weight.detach(),
    }
    torch.save(end, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(("kind", "ranks"), [(CosFace, 2), (ArcFace, 3)])
def test_sharded_over_ranks_it_trains_as_one_process_does(kind, ranks, tmp_path):
    compare_with_one_process(kind, ranks, tmp_path, "gloo")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="nccl wants a GPU for each rank")
def test_sharded_over_gpus(tmp_path):
    compare_with_one_process(CosFace, torch.cuda.device_count(), tmp_path, "nccl")


def compare_with_one_process(kind, ranks, tmp_path, backend):
    mp.spawn(rank_of_a_group, (ranks, kind, str(tmp_path), backend), nprocs=ranks)
    ends = [
        torch.load(tmp_path / f"{rank}.pt", weights_only=True, map_location="cpu") for rank in range(ranks)
    ]
    alone = Student(kind)
    alone.loss.weight.data = centres()
    losses, state = steps(alone, *whole_batch(), alone)
    for end in ends:
        assert end["losses"] == pytest.approx(losses, rel=1e-5)
        for name, value in state.items():
            torch.testing.assert_close(end["state"][name], value, rtol=1e-4, atol=1e-5)
    # Shards cover all classes once, and each samples its own share, the batch's classes among it.
    assert [end["rows"][0] for end in ends] == [
        round(sum(e["rows"][1] for e in ends[:r])) for r in range(ranks)
    ]
    assert sum(end["rows"][1] for end in ends) == 1000
    # Their generators are seeded alike, yet centres and samples are not.
    assert not torch.equal(ends[0]["fresh"][:100], ends[1]["fresh"][:100])
    below = [set((end["touched"] - end["rows"][0]).tolist()) for end in ends]
    assert len(below[0] & below[1]) < len(below[0]) / 2
    for end in ends:
        assert len(end["touched"]) == math.ceil(end["rows"][1] * 0.1)
    touched = set(torch.cat([end["touched"] for end in ends]).tolist())
    assert set((whole_batch()[1] * 100).tolist()) <= touched
