"""Worker processes and a C++ builder, shared by the tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kevolve.evaluate.client import Child, Limits, Workers
from kevolve.languages.cpp import Cpp
from kevolve.targets.cpu import CPU

LIMITS = Limits(memory_bytes=1 << 30, disk_bytes=256 << 20, threads=300)


@pytest.fixture(scope="session")
def cpu() -> CPU:
    return CPU()


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    here = str(Path(__file__).parent)
    with Workers(sys_path=[here, *sys.path], scratch=tmp_path_factory.mktemp("workers"), limits=LIMITS) as made:
        yield made


@pytest.fixture(scope="session")
def build(shared_folder: Path, cpu: CPU) -> Callable[..., Path]:
    """``build(source, entry)``: the built library. One cache for all xdist workers."""

    def built(source: str, entry: str) -> Path:
        return Cpp().build(source, entry=entry, target=cpu, cache=shared_folder, timeout_s=60).artifact

    return built


@pytest.fixture(scope="session")
def library(build: Callable[..., Path]) -> Path:
    """``worker_kernels.cpp``, built."""
    return build((Path(__file__).parent / "worker_kernels.cpp").read_text(), "twice")


@pytest.fixture
def child(workers: Workers, cpu: CPU) -> Iterator[Child]:
    with workers.child(target=cpu, language="cpp") as made:
        made.call("enter", target="cpu", stage="check", deadline_s=30)
        yield made
