"""Comparisons without a device, shared by the tests of this folder: what is compiled of an old kernel is compiled once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kevolve import registry
from kevolve.evaluate.client import Limits, Workers
from kevolve.gate.static import compare
from kevolve.report.values import Figure
from kevolve.spec.spec import Spec


@pytest.fixture(scope="session")
def gate_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    limits = Limits(memory_bytes=4 << 30, processes=24)
    with Workers(sys_path=sys.path, scratch=tmp_path_factory.mktemp("gate"), limits=limits) as made:
        yield made


@pytest.fixture(scope="session")
def gate_cache(shared_cache: None) -> Path:
    return Path(os.environ["KEVOLVE_CACHE"])


@pytest.fixture
def figures_of(gate_workers: Workers, gate_cache: Path) -> Callable[..., tuple[Figure, ...]]:
    """``figures_of(spec, old, new, arches=("sm90",), cache=…)``; for the target whose kernels Triton compiles without its device."""

    def figures(spec: Spec, old: str, new: str, *, arches: Any = ("sm90",), cache: Path = gate_cache) -> tuple[Figure, ...]:
        target, language = registry.load("targets", "cuda"), registry.load("languages", "triton")
        return compare(spec, language, old, new, target=target, workers=gate_workers, cache=cache, jobs=2, arches=arches)

    return figures
