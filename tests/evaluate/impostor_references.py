"""References of the specs that admission is tried on: importable by name."""

from __future__ import annotations

import torch


def normalised(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, -1)


def relu(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x)


def same(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


def nothing(x: torch.Tensor) -> torch.Tensor:
    return (x * 0).nan_to_num(0.0)


def totals(x: torch.Tensor) -> torch.Tensor:
    return x.sum(-1)


def scaled_and_ones(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x * 3, torch.ones_like(x)


def gated(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(gate)


def detached(x: torch.Tensor) -> torch.Tensor:
    return x.detach() * 2 + x * 0


def counted(ids: torch.Tensor) -> torch.Tensor:
    return ids * 2 + 1


def refusing(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("never")


def pooled(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool1d(x, 8, stride=1)


def best(x: torch.Tensor) -> torch.Tensor:
    return x.argmax(-1)


def itself(x: torch.Tensor) -> torch.Tensor:
    return x


def vanishing(x: torch.Tensor) -> torch.Tensor:
    """The greatest of a row less the mean of that one number."""
    greatest = x.amax(-1, keepdim=True)
    return torch.nn.functional.gelu(greatest - greatest.mean(-1, keepdim=True))
