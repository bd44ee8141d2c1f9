"""The suites' specs, collected as pytest collects them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from kevolve.plugin import SPEC
from kevolve.spec.spec import Spec

SUITES = Path(__file__).resolve().parent.parent / "suites"


class _Grab:
    """A pytest plugin that keeps the specs of what was collected."""

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Called once, when everything is collected."""
        for item in session.items:
            spec = item.stash.get(SPEC, None)
            if spec is not None:
                self.specs[spec.name] = spec


def collect(target: str = "cpu", folder: Path = SUITES) -> dict[str, Spec]:
    """The specs of a folder's tests, the suites', by name. Raises ``RuntimeError`` where pytest could not collect them."""
    grab = _Grab()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "--kevolve-target", target, str(folder)], plugins=[grab])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(said.getvalue())
    return grab.specs
