import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses as reference
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from otter_ray.projects.docclassifier import ArcFace, CosFace
from otter_ray.projects.docclassifier.modeling import losses
from otter_ray.projects.docclassifier.modeling.losses import _Cosine, _CrossEntropy

S, M, DIM, CLASSES = 16.0, 0.3, 5, 7


def made(kind, **options):
    torch.manual_seed(0)
    return kind(**{"num_classes": CLASSES, "embed_dim": DIM, "s": S, "m": M, **options})


def batch(count=6, classes=CLASSES, seed=1):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(count, DIM, generator=generator, requires_grad=True)
    return embeddings, torch.randint(classes, (count,), generator=generator)


@pytest.mark.parametrize("kind", [CosFace, ArcFace])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    margin=st.sampled_from([0.0, 0.3, 0.5]),
    scale=st.sampled_from([1.0, 64.0]),
)
def test_equals_pytorch_metric_learning(kind, seed, margin, scale):
    """Loss and both gradients."""
    ours = made(kind, s=scale, m=margin)
    if kind is CosFace:
        theirs = reference.CosFaceLoss(CLASSES, DIM, margin=margin, scale=scale)
    else:
        theirs = reference.ArcFaceLoss(CLASSES, DIM, margin=math.degrees(margin), scale=scale)
    theirs.W.data = ours.weight.detach().T.clone()
    embeddings, labels = batch(seed=seed)
    twin = embeddings.detach().clone().requires_grad_()
    one, other = ours(embeddings, labels), theirs(twin, labels)
    one.backward()
    other.backward()
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(embeddings.grad, twin.grad, rtol=2e-3, atol=2e-4 * scale)
    # Centres are short (0.01), so their gradient is long.
    torch.testing.assert_close(ours.weight.grad, theirs.W.grad.T, rtol=2e-3, atol=2e-2 * scale)


@pytest.mark.parametrize("block", [losses.CENTRES_AT_ONCE, 2])
@pytest.mark.parametrize("chosen", [None, torch.tensor([0, 2, 3])])
def test_the_cosines_gradient(chosen, block, monkeypatch):
    monkeypatch.setattr(losses, "CENTRES_AT_ONCE", block)
    unit, weight = (torch.randn(rows, DIM, dtype=torch.float64, requires_grad=True) for rows in (3, 4))
    assert torch.autograd.gradcheck(lambda u, w: _Cosine.apply(u, w, chosen), (unit, weight))
    expected = nn.functional.linear(
        unit, nn.functional.normalize(weight if chosen is None else weight[chosen])
    )
    torch.testing.assert_close(_Cosine.apply(unit, weight, chosen), expected)


def test_the_cross_entropys_gradient():
    logits = (torch.randn(4, 6, dtype=torch.float64) * 9).requires_grad_()
    samples, columns = torch.arange(4), torch.tensor([5, 0, 0, 3])
    assert torch.autograd.gradcheck(lambda z: _CrossEntropy.apply(z.clone(), samples, columns), logits)
    expected = nn.functional.cross_entropy(logits, columns)
    torch.testing.assert_close(_CrossEntropy.apply(logits.clone(), samples, columns), expected)


def test_far_logits_do_not_overflow():
    loss = made(CosFace, s=1000.0)
    opposite = -loss.weight.detach()[:1]
    assert loss(opposite, torch.tensor([0])).item() > 1000


@pytest.mark.parametrize("kind", [CosFace, ArcFace])
def test_a_sample_holds_the_batchs_classes_and_no_more_than_asked_for(kind):
    loss = made(kind, num_classes=1000, sample_rate=0.05)
    embeddings, labels = batch(count=20, classes=1000)
    loss(embeddings, labels).backward()
    touched = loss.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert len(touched) == 50
    assert set(labels.tolist()) <= set(touched)


def test_a_sampled_step_is_the_full_softmax_over_the_sample():
    loss = made(CosFace, num_classes=1000, sample_rate=0.05)
    embeddings, labels = batch(count=20, classes=1000)
    sampled = loss(embeddings, labels)
    sampled.backward()
    chosen = loss.weight.grad.abs().sum(dim=1).nonzero().flatten()
    small = made(CosFace, num_classes=50)
    small.weight.data = loss.weight.detach()[chosen]
    full = small(embeddings.detach(), torch.searchsorted(chosen, labels))
    full.backward()
    torch.testing.assert_close(sampled, full)
    torch.testing.assert_close(loss.weight.grad[chosen], small.weight.grad)


def test_every_class_is_sampled_in_its_turn():
    loss, counts = made(CosFace, num_classes=40, sample_rate=0.25), torch.zeros(40)
    for _ in range(400):
        counts[loss._sample(torch.tensor([3, 3]))] += 1
    assert counts[3] == 400
    others = counts[torch.arange(40) != 3] / 400
    assert others.min() > 0.12
    assert others.max() < 0.35


def test_a_batch_of_more_classes_than_the_sample():
    loss = made(CosFace, num_classes=40, sample_rate=0.05)
    embeddings, labels = batch(count=40, classes=40)
    loss(embeddings, labels).backward()
    assert set(labels.tolist()) <= set(loss.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist())


def test_evaluation_compares_against_all():
    loss = made(ArcFace, sample_rate=0.2).eval()
    embeddings, labels = batch()
    assert loss(embeddings, labels) == made(ArcFace)(embeddings, labels)


@pytest.mark.parametrize("rate", [0, -0.1, 1.5])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match=rf"sample_rate is {rate} but must be in \(0, 1\]"):
        made(CosFace, sample_rate=rate)


class Sizes(TorchDispatchMode):
    """Elements of every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        self.seen += [
            value.numel()
            for value in (result if isinstance(result, tuple) else [result])
            if isinstance(value, torch.Tensor)
        ]
        return result


def test_a_low_default_precision_samples_all_rows_alike():
    # bfloat16 has 256 numbers below 1: the 100 rows would be the first of those that drew the largest.
    loss = made(CosFace, num_classes=100_000, sample_rate=0.001)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        chosen = loss._sample(torch.tensor([5]))
    finally:
        torch.set_default_dtype(default)
    assert chosen[-1] > 90_000


def test_a_million_classes_make_no_large_matrix():
    loss = made(CosFace, num_classes=1_000_000, sample_rate=0.01)
    embeddings, labels = batch(count=16, classes=1_000_000)
    with Sizes() as sizes:
        loss(embeddings, labels).backward()
    # The gradient is as large as the centres; next come the sample's own.
    largest = sorted(size for size in sizes.seen if size != loss.weight.numel())[-1]
    assert largest == 1_000_000
    assert loss.weight.grad.shape == (1_000_000, DIM)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@pytest.mark.parametrize("kind", [CosFace, ArcFace])
def test_a_gpu_gives_what_a_cpu_gives(kind):
    embeddings, labels = batch(count=20, classes=1000)
    there = embeddings.detach().cuda().requires_grad_()
    here, far = made(kind, num_classes=1000), made(kind, num_classes=1000).cuda()
    far.load_state_dict(here.state_dict())
    losses = here(embeddings, labels), far(there, labels.cuda())
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[1].cpu(), losses[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(there.grad.cpu(), embeddings.grad, rtol=1e-2, atol=1e-3)
    sampled = made(kind, num_classes=1000, sample_rate=0.1).cuda()
    sampled(there, labels.cuda()).backward()
    assert int((sampled.weight.grad.abs().sum(dim=1) > 0).sum()) == 100
