"""What logits become, worked out by hand."""

import math

import pytest
import torch

from clipwise.engine.distillation import distillation_loss
from clipwise.tasks.logits import average_views, to_probabilities


def test_probabilities_of_views_are_averaged_not_their_logits():
    """Views (1/2, 1/2) and (9/10, 1/10): mean 0.7, 0.3. Averaging the logits first gives 3/4, 1/4."""
    logits = torch.tensor([[[0.0, 0.0], [math.log(9), 0.0]]])
    assert average_views(logits, "prob", "softmax")[0].tolist() == pytest.approx([0.7, 0.3])
    assert average_views(logits, "prob", "softmax", True)[0].tolist() == pytest.approx([0.75, 0.25])
    assert average_views(logits, "score", "softmax")[0].tolist() == pytest.approx([math.log(3), 0.0])
    assert average_views(logits, "none", "softmax").tolist() == logits.tolist()


def test_sigmoids_of_views():
    """sigmoid(0) = 1/2, sigmoid(ln 9) = 9/10."""
    logits = torch.tensor([[[0.0, 0.0], [math.log(9), 0.0]]])
    assert average_views(logits, "prob", "sigmoid")[0].tolist() == pytest.approx([0.7, 0.5])
    scores = average_views(logits, "score", "sigmoid").numpy()  # (ln 3, 0)
    assert to_probabilities(scores, "score", "sigmoid")[0].tolist() == pytest.approx([0.75, 0.5])


def test_distillation_is_the_divergence_from_the_teacher():
    """Student (1/2, 1/2), teacher (9/10, 1/10): 0.9 ln 1.8 + 0.1 ln 0.2. The other way round it would be 0.511."""
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(9), 0.0]])
    by_hand = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert distillation_loss(student, teacher).item() == pytest.approx(by_hand, rel=1e-6)
