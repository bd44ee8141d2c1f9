"""Cross entropy of logits against class indices, mean over rows, with its gradient."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _by_function(logits: Any, target: Any) -> Any:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, target)


def _by_nll(logits: Any, target: Any) -> Any:
    from torch.nn.functional import nll_loss

    return nll_loss(logits.log_softmax(-1), target)


def _by_gather(logits: Any, target: Any) -> Any:
    return -logits.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1).mean()


def _by_negated_mean(logits: Any, target: Any) -> Any:
    return (-logits.log_softmax(-1).gather(-1, target[:, None])).mean()


def _by_logsumexp(logits: Any, target: Any) -> Any:
    return (logits.logsumexp(-1) - logits.gather(-1, target[:, None]).squeeze(-1)).mean()


SAMPLES = (
    Sample(
        name="cross_entropy",
        idea="log-sum-exp of each row in cache, nothing of the size of the logits is stored; the gradient recomputes it",
        patterns=(_by_function, _by_nll, _by_gather, _by_negated_mean, _by_logsumexp),
        example=lambda: (Tensor(6, 10), Tensor(6, dtype="int64", low=0, high=10)),
        templates={"cpp": "cross_entropy.cpp.jinja", "triton": "cross_entropy.py.jinja"},
        # `loss`: the dtype of the loss; casts are not in the graphs that are compared, so it is tried, and the check decides.
        knobs={
            "cpp": {"loss": ("float32", "as_logits"), "grain": (8192, 2048, 32768), "chunk": (2048, 1024, 8192)},
            "triton": {"loss": ("float32", "as_logits"), "block": (4096, 2048, 8192), "num_warps": (8, 4, 16), "num_stages": (1, 3, 2)},
        },
    ),
)
