"""KernelBench's own evaluator on the same candidates, as its batch script runs it: a fresh process for each, 5 trials and 100 timed ones.

KernelBench is not part of this repository: fetch it and name its checkout (``python -m benchmarks.evaluations --kernelbench PATH``).
What of its imports is not installed and plays no part in an evaluation (clients of models, a loader of settings) is replaced by nothing.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

_UNUSED = ("dotenv", "openai", "litellm", "requests", "pydantic", "tqdm", "datasets", "toml", "tomli")
_TRIALS, _TIMED = 5, 100  # its batch script's own
_DEADLINE_S = 180.0
PROBLEM = """
import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x, weight):
        wide = x.float()
        normalised = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return (normalised * weight.float()).to(x.dtype)

def get_inputs():
    return [torch.randn({rows}, {cols}), torch.randn({cols})]

def get_init_inputs():
    return []
"""
SOLUTION = """

class ModelNew(torch.nn.Module):
    def forward(self, x, weight):
        return rms_norm(x, weight)
"""


def rate(checkout: Path, sources: Sequence[str], rows: int, cols: int) -> dict[str, Any]:
    """Evaluations a minute of float32 ``rms_norm`` sources, one after another; how many it found correct.

    Raises ``FileNotFoundError`` where ``checkout`` is none of KernelBench.
    """
    if not (checkout / "src" / "kernelbench" / "eval.py").exists():
        raise FileNotFoundError(f"{checkout}: expected a checkout of KernelBench (src/kernelbench/eval.py)")
    problem = PROBLEM.format(rows=rows, cols=cols)
    context = multiprocessing.get_context("spawn")
    began, results = time.perf_counter(), []
    for source in sources:
        with context.Pool(1) as pool:
            results.append(pool.apply_async(evaluated, (str(checkout), problem, source + SOLUTION)).get(timeout=_DEADLINE_S))
    seconds = time.perf_counter() - began
    return {
        "evaluations": len(results),
        "correct": sum(result["correct"] for result in results),
        "seconds": round(seconds, 2),
        "per_minute": round(60 * len(results) / seconds, 2),
        "of which inside its evaluator, s": round(sum(result["seconds"] for result in results), 2),
        "kernel_us": [round(1000 * result["runtime_ms"], 1) for result in results],
    }


def evaluated(checkout: str, problem: str, solution: str) -> dict[str, Any]:
    """One evaluation, in a process of its own."""
    sys.path.insert(0, str(Path(checkout) / "src"))
    for name in _UNUSED:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = MagicMock()
    if isinstance(sys.modules.get("pydantic"), MagicMock):
        sys.modules["pydantic"].BaseModel = _Fields
    import torch
    from kernelbench.eval import eval_kernel_against_ref

    began = time.perf_counter()
    result = eval_kernel_against_ref(
        problem,
        solution,
        num_correct_trials=_TRIALS,
        num_perf_trials=_TIMED,
        measure_performance=True,
        device=torch.device("cuda:0"),
        backend="triton",
        precision=torch.float32,
    )
    seconds = time.perf_counter() - began
    return {"correct": bool(result and result.correctness), "runtime_ms": float(result.runtime) if result else -1.0, "seconds": seconds}


class _Fields:
    """In place of pydantic's model: the fields that are given."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update({"correctness": False, "metadata": {}, "runtime": -1.0, "runtime_stats": {}} | fields)
