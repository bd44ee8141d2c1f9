"""How much memory there is, and how much a computation takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kevolve.evaluate import memory


def test_a_containers_limit_bounds_what_is_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=100 << 30))
    assert memory.available_bytes(tmp_path) == 100 << 30
    (tmp_path / "memory.current").write_text("3000\n")
    for limit, expected in (("max\n", 100 << 30), ("10000\n", 7000), ("2000\n", 0), (f"{1 << 60}\n", 100 << 30)):
        (tmp_path / "memory.max").write_text(limit)
        assert memory.available_bytes(tmp_path) == expected


def test_the_peak_of_a_computation_is_what_it_held_at_once() -> None:
    found = memory.peak_bytes(lambda: [torch.ones(64 << 20, dtype=torch.uint8).amax() for _ in range(3)])
    if found is None:
        pytest.skip("this system does not reset a process's peak")
    assert 60 << 20 <= found < 120 << 20


def test_a_system_that_tells_no_peak_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    ran: list[int] = []
    assert memory.peak_bytes(lambda: ran.append(1)) is None
    assert ran == [1]
