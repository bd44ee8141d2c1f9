"""``--kevolve-gate`` among pytest's hooks: a plugin of its own, registered where the option is given. ``kevolve.gate`` does the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from kevolve.gate.revision import Revision, RevisionError, resolve
from kevolve.reporting import inert
from kevolve.settings import Settings

if TYPE_CHECKING:
    from kevolve.gate.gate import Gate
    from kevolve.report.record import Verdict
    from kevolve.run import Run
    from kevolve.spec.spec import Case, Spec

_VERDICT, _IDLE = "kevolve_gate", "kevolve_idle"  # attributes of a test's report: xdist carries them from its workers
Subject = tuple["Spec | None", "Case | None"]


class Gating:
    """The gate of one session. ``run``: the session's; ``subject``: the spec of an item and its case."""

    def __init__(self, settings: Settings, run: Callable[[pytest.Session], Run], subject: Callable[[pytest.Item], Subject]) -> None:
        """Raises ``pytest.UsageError`` where there is no revision to compare with."""
        others = [("--kevolve-optimize", settings.optimise != "off"), ("--kevolve-replay", settings.replay is not None)]
        given = [name for name, there in others if there]
        if given:
            raise pytest.UsageError(f"--kevolve-gate: expected an ordinary run, got {' and '.join(given)}; run them one after the other")
        try:
            self.revision = resolve(settings.rootdir, settings.gate or "")
        except RevisionError as error:
            raise pytest.UsageError(f"--kevolve-gate: {error}") from error
        self._settings, self._run, self._subject = settings, run, subject
        self._session: pytest.Session | None = None

    def pytest_report_header(self) -> str:
        """What is compared with what."""
        return f"kevolve gate: {_against(self.revision)}"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember the session: the gate belongs to its run."""
        self._session = session

    @cached_property
    def gate(self) -> Gate:
        """Made at the first kernel item."""
        from kevolve.evaluate.disturbance import read
        from kevolve.gate.figured import available
        from kevolve.gate.gate import Gate
        from kevolve.gate.history import History, paths
        from kevolve.gate.verdict import Rules

        assert self._session is not None  # pytest says so before the first item
        run = self._run(self._session)
        return Gate(
            run,
            self.revision,
            Rules(allowance=self._settings.gate_allowance),
            compare=available(),
            load=lambda: os.getloadavg()[0],
            cores=len(os.sched_getaffinity(0)),
            reading=lambda: read(run.target),
            history=History(paths(self._settings.rootdir, self._settings.gate_history)),
        )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        """Skip a kernel that did not change; else run the item as ever, and judge what it found."""
        spec, case = self._subject(pyfuncitem)
        if spec is None:
            return (yield)
        idle = self.gate.idle(spec)
        if idle is not None:
            setattr(pyfuncitem, _IDLE, True)
            self._shown(pyfuncitem, self._run(pyfuncitem.session).verdicts.get((spec.nodeid, "")))
            pytest.skip(idle)
        ordinary: BaseException | None = None
        result: Any = True
        try:
            result = yield
        except (pytest.fail.Exception, pytest.skip.Exception) as raised:
            ordinary = raised
        verdict = self._judged(spec, case, str(ordinary.msg) if ordinary is not None else "")  # type: ignore[attr-defined]
        self._run(pyfuncitem.session).save()
        self._shown(pyfuncitem, verdict)
        self._decide(spec, verdict, ordinary)
        return result

    def _judged(self, spec: Spec, case: Case | None, said: str) -> Verdict | None:
        from kevolve.evaluate.outcome import Status

        assert self._session is not None
        run = self._run(self._session)
        if case is not None:
            row: Any = run.rows.get((spec.nodeid, case.id))
        else:
            row = run.property_rows.get(spec.nodeid)
        if row is None:
            return None
        status = Status(row.status)
        return self.gate.properties(spec, status, said) if case is None else self.gate.case(spec, case, status, said)

    def _decide(self, spec: Spec, verdict: Verdict | None, ordinary: BaseException | None) -> None:
        """The item's outcome: a failing verdict before all; then what the ordinary run says, unless the gate timed what that could not."""
        failed = isinstance(ordinary, pytest.fail.Exception)
        if verdict is not None and verdict.failed:
            besides = f"\n{ordinary.msg}" if failed and verdict.verdict != "wrong" else ""  # type: ignore[union-attr]
            pytest.fail(inert(f"{verdict.message}{besides}", self._settings), pytrace=False)
        if failed:
            pytest.fail(inert(f"{ordinary.msg}{self._hint(spec)}", self._settings), pytrace=False)  # type: ignore[union-attr]
        timed = verdict is not None and verdict.ratio is not None and verdict.verdict != "unmeasurable"
        if ordinary is not None and not timed:
            pytest.skip(_joined(str(ordinary.msg), verdict))  # type: ignore[attr-defined]
        if verdict is not None and verdict.verdict == "unmeasurable":
            if self._settings.require_measured:
                pytest.fail(f"not measured: {verdict.message} (--kevolve-require-measured)", pytrace=False)
            pytest.skip(f"gate: unmeasurable: {verdict.message}")

    def _hint(self, spec: Spec) -> str:
        return self.gate.hint(spec) if self.gate.change(spec) is None else ""

    def _shown(self, item: pytest.Item, verdict: Verdict | None) -> None:
        """JUnit's properties, and the row for the summary."""
        if verdict is None:
            return
        shown: dict[str, Any] = {"verdict": verdict.verdict}
        if verdict.ratio is not None:
            shown |= {name: round(value, 4) for name, value in _bounds(verdict)}
        shown |= {f"{name}_us": side.extra.get("form_us", side.time_us) for name, side in _sides(verdict)}
        item.user_properties += [(f"kevolve_{name}", value) for name, value in shown.items() if value is not None]
        setattr(item, _VERDICT, verdict)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Put the verdict into the test's report."""
        from kevolve.report.record import flat

        report = yield
        verdict = getattr(item, _VERDICT, None)
        if verdict is not None and call.when == "call":
            setattr(report, _VERDICT, flat(verdict))
        if call.when == "call" and hasattr(item, _IDLE):
            setattr(report, _IDLE, True)
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table of verdicts, the worst first; under xdist the workers' as well."""
        from kevolve.report.gate import summary

        if terminalreporter.config.option.collectonly:
            return
        reports = [report for group in terminalreporter.stats.values() for report in group]
        idle, rows = sum(hasattr(report, _IDLE) for report in reports), _rows(reports, self._removed())
        against = f"kernels against {self.revision}" if rows else _against(self.revision)
        said = summary(rows, terminalreporter._tw.fullwidth, against=against, idle=idle)
        terminalreporter.section("kevolve gate")
        terminalreporter.write_line(said)
        for problem in self.gate.history.problems if "gate" in self.__dict__ else ():
            terminalreporter.write_line(f"history: {problem}; kevolve_gate_history in the ini file names the records")

    def _removed(self) -> list[Verdict]:
        from kevolve.gate.gate import all_languages, removed_rows

        return removed_rows(self.revision, self._settings.target, all_languages(self._settings.target), self._settings.rootdir)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Put removed kernels into the record, before it is written for the last time."""
        if "gate" in self.__dict__:
            self._run(session).verdicts.update({(str(row.old.path), ""): row for row in self._removed() if row.old is not None})


def _rows(reports: list[Any], removed: list[Verdict]) -> list[Verdict]:
    """The verdicts of tests, each once, then removed kernels."""
    from kevolve.report.fields import Fields
    from kevolve.report.reading import verdict

    given = [verdict(Fields(report.kevolve_gate, "gate")) for report in reports if hasattr(report, _VERDICT)]
    found = {(row.spec, row.case, row.extra.get("test")): row for row in given}
    return [*found.values(), *removed]


def _against(revision: Revision) -> str:
    """The revision, and what to write where only edits can have changed anything."""
    then = "; that is HEAD: for what its commit changed, --kevolve-gate=HEAD^" if revision.is_head else ""
    return f"kernels against {revision}{then}"


def _joined(said: str, verdict: Verdict | None) -> str:
    return said if verdict is None or verdict.message in said else f"{said}; gate: {verdict.verdict}: {verdict.message}"


def _bounds(verdict: Verdict) -> Iterator[tuple[str, float]]:
    if verdict.ratio is not None:
        yield from (("ratio", verdict.ratio.estimate), ("low", verdict.ratio.low), ("high", verdict.ratio.high))


def _sides(verdict: Verdict) -> Iterator[tuple[str, Any]]:
    return ((name, side) for name, side in (("old", verdict.old), ("new", verdict.new)) if side is not None)
