"""Losses: of regression, detection, distillation and reinforcement learning."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FOCAL_ALPHA = 0.25
CLIP = 0.2


def huber_loss(prediction: Tensor, target: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """The Huber loss, mean over all elements, and its gradient for the prediction.

    ``prediction``, ``target``: float32 [rows, cols]. ``delta``: positive. Returns the loss [] and the gradient [rows, cols], float32.
    Source: Huber 1964, Annals of Mathematical Statistics 35, equation 4.
    """
    error = prediction - target
    size = error.abs()
    loss = torch.where(size <= delta, 0.5 * error.square(), delta * (size - 0.5 * delta))
    return loss.mean(), error.clamp(-delta, delta) / error.numel()


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The focal loss of a detector (gamma 2) summed over anchors and classes, for each anchor that is an object.

    ``logits``: float32 [anchors, classes]. ``targets``: bool [anchors, classes]. Returns float32 [].
    Source: Lin et al. 2017, arXiv 1708.02002, equation 5.
    """
    wanted = targets.float()
    probability = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    right = probability * wanted + (1 - probability) * (1 - wanted)
    alpha = FOCAL_ALPHA * wanted + (1 - FOCAL_ALPHA) * (1 - wanted)
    objects = targets.any(-1).sum().clamp(min=1)
    return (alpha * (1 - right).square() * cross_entropy).sum() / objects


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The divergence of a student's distribution from its teacher's, both softened, times the squared temperature; mean over rows.

    ``student``, ``teacher``: floating [rows, vocabulary]. ``temperature``: positive. Returns float32 [].
    Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2.
    """
    predicted = torch.log_softmax(student.float() / temperature, dim=-1)
    wanted = torch.log_softmax(teacher.float() / temperature, dim=-1)
    divergence = (wanted.exp() * (wanted - predicted)).sum(-1)
    return divergence.mean() * temperature**2


def policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The clipped surrogate objective of PPO over the tokens of sampled answers, as a loss; mean over what the mask keeps.

    ``log_probs``, ``old_log_probs``: float32 [batch, tokens]. ``advantages``: float32 [batch]. ``mask``: bool [batch, tokens].
    Returns float32 []. Source: Schulman et al. 2017, arXiv 1707.06347, equation 7; one advantage an answer as in arXiv 2402.03300.
    """
    ratio = torch.exp(log_probs - old_log_probs)
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    advantage = advantages[:, None]
    objective = torch.minimum(ratio * advantage, clipped * advantage)
    return -torch.where(mask, objective, 0.0).sum() / mask.sum().clamp(min=1)
