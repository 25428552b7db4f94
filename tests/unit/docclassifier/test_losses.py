import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otter_ray.projects.docclassifier import ArcFace, CosFace

S = 16.0


def arcface(angle, margin):
    if angle + margin <= math.pi:
        return math.cos(angle + margin)
    return math.cos(angle) - margin * math.sin(margin)


TARGETS = {CosFace: lambda angle, margin: math.cos(angle) - margin, ArcFace: arcface}


def directly(kind, embeddings, centres, labels, margin):
    """The mean loss in float64, one sample and one angle at a time."""
    total = 0.0
    for embedding, label in zip(embeddings, labels, strict=True):
        unit = embedding / np.linalg.norm(embedding)
        cosines = [float(np.clip(unit @ centre / np.linalg.norm(centre), -1, 1)) for centre in centres]
        logits = [S * cosine for cosine in cosines]
        logits[label] = S * TARGETS[kind](math.acos(cosines[label]), margin)
        top = max(logits)
        total += top + math.log(sum(math.exp(logit - top) for logit in logits)) - logits[label]
    return total / len(labels)


def made(kind, centres, margin=0.4):
    loss = kind(num_classes=len(centres), embed_dim=centres.shape[1], s=S, m=margin)
    with torch.no_grad():
        loss.weight.copy_(torch.as_tensor(centres))
    return loss


@pytest.mark.parametrize("kind", [CosFace, ArcFace])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), margin=st.sampled_from([0.0, 0.2, 0.5, 1.2]))
def test_equals_the_formula(kind, seed, margin):
    rng = np.random.default_rng(seed)
    centres, embeddings = rng.normal(size=(5, 3)), rng.normal(size=(8, 3))
    labels = rng.integers(0, 5, 8)
    loss = made(kind, centres, margin)(torch.tensor(embeddings).float(), torch.tensor(labels))
    assert loss.item() == pytest.approx(directly(kind, embeddings, centres, labels, margin), abs=2e-4)


@pytest.mark.parametrize("kind", [CosFace, ArcFace])
def test_gradients_are_finite_at_both_ends(kind):
    loss = made(kind, np.eye(3))
    embeddings = torch.tensor([[2.0, 0, 0], [-1.0, 0, 0], [0, 0, 3.0]], requires_grad=True)
    value = loss(embeddings, torch.tensor([0, 0, 2]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(loss.weight.grad).all()
    # On its own, too: whether clamp passes a gradient at its bounds is torch's choice.
    cosine = torch.tensor([1.0, -1.0], requires_grad=True)
    loss.margin(cosine).sum().backward()
    assert torch.isfinite(cosine.grad).all()


@pytest.mark.parametrize("kind", [CosFace, ArcFace])
def test_the_margin_makes_the_target_harder_at_every_angle(kind):
    angles = torch.linspace(0, math.pi, 200)
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    hard, easy = made(kind, np.eye(2), 0.4), made(kind, np.eye(2), 0.0)
    for embedding in embeddings:
        label = torch.tensor([0])
        assert hard(embedding[None], label) > easy(embedding[None], label)
    falling = hard.margin(angles.cos()).diff()
    assert (falling < 0).all()


@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.uint8])
def test_labels_of_any_integer_type(kind):
    loss, embeddings = made(CosFace, np.eye(3)), torch.eye(3)
    assert loss(embeddings, torch.tensor([2, 1, 0], dtype=kind)) == loss(embeddings, torch.tensor([2, 1, 0]))


def test_half_precision_embeddings_are_compared_in_float32():
    loss = made(ArcFace, np.eye(3))
    embeddings = torch.tensor([[1.0, 0.5, 0.25]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(embeddings.bfloat16(), torch.tensor([1]))
    assert value.dtype == torch.float32
    assert value == loss(embeddings, torch.tensor([1]))


@pytest.mark.parametrize("kind", [CosFace, ArcFace])
@pytest.mark.parametrize("scale", [0, -3.0])
def test_a_scale_that_is_not_positive_is_refused(kind, scale):
    with pytest.raises(ValueError, match=f"s is {scale} but must be > 0"):
        kind(num_classes=2, embed_dim=2, s=scale)


def test_the_weight_is_a_centre_a_class():
    assert CosFace(num_classes=7, embed_dim=5).weight.shape == (7, 5)
