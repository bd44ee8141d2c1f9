"""Reports among pytest's hooks: where they go, what a session leaves, what its workers hand over. ``kevolve.report`` renders them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kevolve.settings import Settings

if TYPE_CHECKING:
    from kevolve.report.record import Record

SHARD = "kevolve_record"  # the name of a record among what an xdist worker hands over


def places(config: pytest.Config, *, worker: bool) -> dict[str, Any]:
    """Where this session reports, by the names of ``Settings``: nowhere from an xdist worker, whose rows go to the controller.

    GitHub's places are read from its environment. Raises ``pytest.UsageError`` for a report of an unknown suffix.
    """
    here, record = config.invocation_params.dir, config.getoption("kevolve_record")
    reports = tuple(Path(here, path) for path in config.getoption("kevolve_report") or ())
    _check(reports)
    annotate = _below_workspace(config.rootpath) if os.environ.get("GITHUB_ACTIONS") == "true" else None
    if worker:
        return {"annotate": annotate}
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    return {
        "record": Path(here, record) if record else None,
        "reports": reports,
        "summary": Path(summary) if summary else None,
        "annotate": annotate,
    }


def _check(reports: tuple[Path, ...]) -> None:
    if not reports:
        return
    from kevolve.report.writing import UnknownForm, form_of

    try:
        for path in reports:
            form_of(path)
    except UnknownForm as error:
        raise pytest.UsageError(f"--kevolve-report: {error}") from error


def _below_workspace(rootdir: Path) -> str:
    """The rootdir as GitHub's annotations name files: below the repository's root."""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or rootdir)
    return rootdir.relative_to(root).as_posix() if rootdir != root and rootdir.is_relative_to(root) else ""


def inert(text: str, settings: Settings) -> str:
    """Text that kernels had a part in, for a log in which GitHub may look for commands."""
    if settings.annotate is None:
        return text
    from kevolve.report.escape import commandless

    return commandless(text)


class Reporting:
    """The reports of one session. ``finished``: what this process judged, when no more follows."""

    def __init__(self, settings: Settings, finished: Callable[[pytest.Config], Record | None]) -> None:
        self._settings, self._finished = settings, finished
        self._shards: list[Any] = []  # records of xdist workers, as plain data
        self._record: Record | None = None
        self._unwritten: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take an xdist worker's rows."""
        shard = getattr(node, "workeroutput", {}).get(SHARD)
        if shard is not None:
            self._shards.append(shard)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the record and the reports; an xdist worker hands its rows over instead."""
        self._record = record = self._finished(session.config) or self._of_workers()
        if record is None:
            return
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[SHARD] = record.to_json()
            return
        from kevolve.publish import publish

        self._unwritten = list(publish(record, self._settings))
        if self._unwritten and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Print the table of results, and for GitHub the annotations."""
        if self._record is None:
            return
        from kevolve.report import github, terminal

        gate = not config.pluginmanager.has_plugin("kevolve-gate")  # which has a section of its own
        shown = terminal.summary(self._record, terminalreporter._tw.fullwidth, gate=gate)
        if shown or self._unwritten:
            terminalreporter.section("kevolve")
            terminalreporter.write_line(inert(shown, self._settings))
        prefix = self._settings.annotate
        lines = [] if prefix is None else github.commands(self._record, prefix=prefix)
        for line in (*self._unwritten, *lines):
            terminalreporter.write_line(line)

    def _of_workers(self) -> Record | None:
        """The rows of all workers as one record; None where there were none."""
        if not self._shards:
            return None
        from kevolve.report.merge import of_shards
        from kevolve.report.record import Record

        return of_shards([Record.from_json(shard) for shard in self._shards])
