"""Margin softmax losses over unit embeddings and class centres, sampled and sharded as PartialFC does.

An et al. 2022, Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs
by Partial FC, arXiv 2203.15565. It is made for a million classes: no matrix of `[num_classes, embed_dim]` is
made in addition to the centres and their gradient, and no one-hot matrix at all.

To add a loss: write its class, with the arguments that a config may give, and export it from the project's
`__init__.py`. A config then names it in `model.loss.name` (`train/registry.py` looks the name up).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from otter_ray.train.distributed import all_gather, all_gather_rows, global_rank, world_size

CENTRES_AT_ONCE = 2**16


class PartialFC(nn.Module):
    """Mean cross entropy over `s * margin(cos)`, with the batch's own classes and a sample of the others.

    With `sample_rate` 1 it is the full softmax. In a process group the centres are spread over its ranks,
    and each rank gets the embeddings of all: the loss is that of one process with the whole batch.
    `DistributedDataParallel` must ignore `weight`, which differs between ranks (`exclude_from_ddp`).

    Args:
        num_classes: Classes of the training data set.
        embed_dim: Length of an embedding.
        s: Scale of the logits, > 0.
        m: Margin; each child defines its meaning.
        sample_rate: Share of the centres that a step compares with, in (0, 1]. Those of the batch are always
            among them (section 3.2 of the paper). In evaluation mode all are used. Centres left out have a
            gradient of 0, but still move by momentum and weight decay.

    Attributes:
        weight: This rank's centres `[rows, embed_dim]`: rows `first ... first + rows` of all classes. The
            `state_dict` holds those of all ranks, so that it loads in any number of processes. In a group,
            all ranks must take and load it together.

    Raises:
        ValueError: An option is out of range, or there are more ranks than classes; on `forward` in a group,
            a label is no class (a single process leaves that to torch's own indexing).
    """

    def __init__(
        self, num_classes: int, embed_dim: int, s: float = 64.0, m: float = 0.4, sample_rate: float = 1.0
    ) -> None:
        super().__init__()
        if s <= 0:
            raise ValueError(f"s is {s} but must be > 0")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate is {sample_rate} but must be in (0, 1]")
        self.s, self.m, self.sample_rate = float(s), float(m), float(sample_rate)
        self.num_classes, self.embed_dim = num_classes, embed_dim
        self.first, self.rows = _shard(num_classes)
        self.weight = nn.Parameter(torch.empty(self.rows, embed_dim))
        nn.init.normal_(self.weight, std=0.01, generator=self._generator())
        self.register_state_dict_post_hook(_gather_weight)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_take_own_weight)  # type: ignore[no-untyped-call]

    def margin(self, target: Tensor) -> Tensor:
        """Apply the margin to the target's cosine `[B]`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement margin(target)")

    @property
    def sharded(self) -> bool:
        """Whether other ranks hold centres as well."""
        return self.rows < self.num_classes

    def gather(self, rows: Tensor) -> Tensor:
        """Gather `[num_classes, ...]` of all ranks' centres; all ranks must call this."""
        return all_gather_rows(rows.detach()) if self.sharded else rows

    def own(self, rows: Tensor) -> Tensor:
        """Return this rank's part of `[num_classes, ...]`."""
        return rows[self.first : self.first + self.rows]

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of embeddings `[B, D]` (normalised here) with integer labels `[B]`.

        In a group `B` must be the same on every rank; the loss is the mean over all ranks' batches.
        """
        # float32 whatever the trainer's precision: a cosine near 1 has no digits to spare.
        with torch.autocast(embeddings.device.type, enabled=False):
            unit, labels = _gathered(F.normalize(embeddings.float()), labels.long())
            samples, rows = self._own(labels)
            chosen = self._sample(rows)
            columns = rows if chosen is None else torch.searchsorted(chosen, rows)
            cosine = _Cosine.apply(unit, self.weight, chosen)
            target = cosine[samples, columns].clamp(-1, 1)
            cosine[samples, columns] = self.margin(target)
            loss: Tensor = _CrossEntropy.apply(self.s * cosine, samples, columns)
        return loss

    def _own(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return (samples of the batch whose class is on this rank, the class's row here), `[P]` each."""
        if not self.sharded:
            return torch.arange(len(labels), device=labels.device), labels
        if ((labels < 0) | (labels >= self.num_classes)).any():
            raise ValueError(f"labels must be in [0, {self.num_classes}) but are {labels.tolist()}")
        samples = ((labels >= self.first) & (labels < self.first + self.rows)).nonzero().flatten()
        return samples, labels[samples] - self.first

    def _sample(self, positives: Tensor) -> Tensor | None:
        """Draw rows of this rank's centres to compare with, ascending; None for all of them."""
        count = math.ceil(self.rows * self.sample_rate)
        if count == self.rows or not self.training:
            return None
        # float32 whatever the default: bfloat16 has 256 numbers in [0, 1), and ties go to the first rows.
        priority = torch.rand(
            self.rows, dtype=torch.float32, device=self.weight.device, generator=self._generator()
        )
        priority[positives] = 2.0
        count = min(max(count, len(positives)), self.rows)
        return priority.topk(count, sorted=False).indices.sort().values

    def _generator(self) -> torch.Generator:
        """Make a generator that no other rank has, although all global generators have the same seed."""
        device = "cpu" if self.weight.is_meta else self.weight.device
        return torch.Generator(device).manual_seed(int(torch.randint(2**31, (), device="cpu")) + self.first)


def _gather_weight(loss: PartialFC, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put the centres of all ranks into a state_dict."""
    state_dict[f"{prefix}weight"] = loss.gather(state_dict[f"{prefix}weight"])


def _take_own_weight(loss: PartialFC, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave this rank's centres in a state_dict of all ranks' that is about to be loaded."""
    key = f"{prefix}weight"
    if key in state_dict and len(state_dict[key]) == loss.num_classes:
        state_dict[key] = loss.own(state_dict[key])


class CosFace(PartialFC):
    """`s (cos t - m)` for the target: Wang et al. 2018, arXiv 1801.09414, eq. 4."""

    def margin(self, target: Tensor) -> Tensor:
        """Return `cos t - m`."""
        return target - self.m


class ArcFace(PartialFC):
    """`s cos(t + m)` for the target: Deng et al. 2019, arXiv 1801.07698, eq. 3; `m` in radians.

    Beyond `t = pi - m`, where `cos(t + m)` would rise again, the line `cos t - m sin m` falls further
    (the authors' own remedy, in their code).
    """

    def margin(self, target: Tensor) -> Tensor:
        """Return `cos(t + m)`, or the line that continues it."""
        # sqrt has no gradient at 0: keep the sine away from it.
        sine = (1 - target.square()).clamp_min(1e-7).sqrt()
        shifted = target * math.cos(self.m) - sine * math.sin(self.m)
        falling = target > math.cos(math.pi - self.m)
        return torch.where(falling, shifted, target - self.m * math.sin(self.m))


class _Cosine(torch.autograd.Function):
    """Cosines `[B, C]` of unit embeddings `[B, D]` and the `chosen` rows of `weight` (None: all of them).

    The unit centres and their gradient that autograd would keep are several times as large as the centres.
    Here the centres are used block by block, and again in the backward pass. With
    unit embeddings e, centres w, `r = 1 / |w|` and incoming gradients g:

        d/de = sum_c (g r) w        d/dw = v - w (v . w) r^2,  v = sum_b (g r) e
    """

    @staticmethod
    def forward(ctx: Any, unit: Tensor, weight: Tensor, chosen: Tensor | None) -> Tensor:
        count = len(weight) if chosen is None else len(chosen)
        cosine, scale = unit.new_empty(len(unit), count), unit.new_empty(count)
        for block, rows in _blocks(count, chosen):
            centres = weight[rows].to(unit.dtype)
            scale[block] = 1 / torch.linalg.vector_norm(centres, dim=1).clamp_min(1e-12)
            cosine[:, block] = (unit @ centres.T).mul_(scale[block])
        ctx.save_for_backward(unit, weight, chosen, scale)
        return cosine

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, weight, chosen, scale = ctx.saved_tensors
        to_unit, to_weight = torch.zeros_like(unit), torch.zeros_like(weight)
        for block, rows in _blocks(len(scale), chosen):
            centres = weight[rows].to(unit.dtype)
            scaled = gradient[:, block] * scale[block]
            to_unit.addmm_(scaled, centres)
            along = scaled.T @ unit
            radial = torch.linalg.vecdot(along, centres) * scale[block].square()
            to_weight[rows] = along.addcmul_(centres, radial[:, None], value=-1).to(weight.dtype)
        return to_unit, to_weight, None


def _blocks(count: int, chosen: Tensor | None) -> Iterator[tuple[slice, Tensor | slice]]:
    """Yield (columns of the cosines, rows of the centres), block by block."""
    for start in range(0, count, CENTRES_AT_ONCE):
        block = slice(start, start + CENTRES_AT_ONCE)
        yield block, block if chosen is None else chosen[block]


class _CrossEntropy(torch.autograd.Function):
    """Mean cross entropy of logits `[B, C]`, which it overwrites, and of those on other ranks.

    `samples` and `columns` `[P]` are the entries of the targets that are on this rank.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, samples: Tensor, columns: Tensor) -> Tensor:
        largest = _reduced(logits.amax(dim=1), dist.ReduceOp.MAX)
        target = torch.zeros_like(largest)
        target[samples] = logits[samples, columns]
        target = _reduced(target, dist.ReduceOp.SUM)
        shares = logits.sub_(largest[:, None]).exp_()
        total = _reduced(shares.sum(dim=1), dist.ReduceOp.SUM)
        ctx.save_for_backward(shares.div_(total[:, None]), samples, columns)
        # The difference first: next to a logit of 64, a small loss would vanish.
        return (total.log() + (largest - target)).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        shares, samples, columns = ctx.saved_tensors
        to_logits = shares * (gradient / len(shares))
        to_logits[samples, columns] -= gradient / len(shares)
        return to_logits, None, None


class _Gather(torch.autograd.Function):
    """Concatenates `[B, D]` of every rank.

    Each rank's centres contribute to every embedding's gradient, and the contributions are summed. The factor
    undoes the mean that DistributedDataParallel computes over ranks: the loss is already that of all ranks.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return all_gather(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = _reduced(gradient.contiguous(), dist.ReduceOp.SUM)
        return summed.chunk(world_size())[global_rank()] * world_size()


def _shard(num_classes: int) -> tuple[int, int]:
    """Return (first class, number of classes) of this rank, as even as possible."""
    if num_classes < world_size():
        message = f"num_classes is {num_classes} but each of {world_size()} processes must hold one or more"
        raise ValueError(message)
    each, left = divmod(num_classes, world_size())
    return each * global_rank() + min(global_rank(), left), each + (global_rank() < left)


def _gathered(unit: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if world_size() == 1:
        return unit, labels
    return _Gather.apply(unit), all_gather(labels)


def _reduced(values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(values, operation)
    return values
