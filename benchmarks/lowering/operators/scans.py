"""Running sums and recurrences."""

from __future__ import annotations

import torch
from torch import Tensor


def row_cumsum(x: Tensor) -> Tensor:
    """The running sum along each row, accumulated in float32.

    ``x``: floating [rows, cols]. Returns the dtype of x [rows, cols].
    """
    return x.float().cumsum(-1).to(x.dtype)


def position_ids(tokens: Tensor, padding: int) -> Tensor:
    """Positions counted on from the padding's id, padding itself not counted.

    ``tokens``: int64 [batch, time]. Returns int64 [batch, time]. Source: fairseq's ``make_positions``, as in RoBERTa, arXiv 1907.11692.
    """
    real = (tokens != padding).long()
    return real.cumsum(1) * real + padding


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """What is still to be earned at each step, later rewards discounted.

    ``rewards``: float32 [environments, steps]. ``discount``: in (0, 1]. Returns float32 [environments, steps].
    Source: Sutton and Barto 2018, equation 3.8, written as a sum from the end over rewards weighted by discount^step.
    """
    weight = discount ** torch.arange(rewards.shape[1], dtype=torch.float32, device=rewards.device)
    to_the_end = (rewards * weight).flip(1).cumsum(1).flip(1)
    return to_the_end / weight


def linear_recurrence(x: Tensor, decay: Tensor) -> Tensor:
    """The state of a gated linear recurrence after each step: h = a h + (1 - a) x.

    ``x``, ``decay``: float32 [batch, time, dim], decay in [0, 1]. Returns float32 [batch, time, dim].
    Source: Feng et al. 2024, arXiv 2410.01201, minGRU, equation of section 3.1.
    """
    state = torch.zeros_like(x[:, 0])
    states = []
    for step in range(x.shape[1]):
        state = decay[:, step] * state + (1 - decay[:, step]) * x[:, step]
        states.append(state)
    return torch.stack(states, dim=1)
