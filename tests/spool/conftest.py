from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kevolve.spec.spec import Spec
from tests.spool.project import declared


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[Spec]:
    folder = tmp_path / "project"
    folder.mkdir()
    with declared(folder) as found:
        yield found
