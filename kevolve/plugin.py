"""The pytest plugin: options, collection, items and the summary. It only wires; ``kevolve.run`` does the work."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from kevolve import reporting
from kevolve.settings import Settings
from kevolve.spec.declaration import ATTRIBUTE, DeclarationError, build_spec
from kevolve.spec.spec import Case, Draw, Spec

if TYPE_CHECKING:
    from kevolve.report.progress import Listener
    from kevolve.report.record import Record
    from kevolve.run import CaseResult, Run

RUN = pytest.StashKey["Run"]()
SETTINGS = pytest.StashKey[Settings]()
FOLDERS = pytest.StashKey[dict[Path, str]]()  # of kernels, by the node id of the spec that they belong to
SPEC = pytest.StashKey[Spec]()
CASE = pytest.StashKey[Case]()
SANDBOXES = ("available", "strict")


def on(*targets: str, min_speedup: float | None = None) -> pytest.MarkDecorator:
    """Mark a ``pytest.param`` as a case of these targets only (a laptop's sizes, a data centre's sizes); none: of all.

    ``min_speedup``: what is expected of this case in place of the spec's, where the first baseline already does it well.
    """
    return pytest.mark.kevolve(targets=targets, min_speedup=min_speedup)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--kevolve-*`` options and their ini twins."""
    group = parser.getgroup("kevolve", "kernels that are tests (kevolve)")
    group.addoption(
        "--kevolve-optimize",
        nargs="?",
        const="needed",
        default="off",
        choices=("off", "needed", "all"),
        help="write kernels for selected specs that fail, are slow or have none; 'all' goes on improving those that pass",
    )
    group.addoption("--kevolve-target", metavar="NAME", help="where kernels run (default: ini kevolve_target, or cpu)")
    group.addoption("--kevolve-language", metavar="NAME[,NAME]", help="languages to write kernels in (default: the target's preference)")
    group.addoption("--kevolve-budget", metavar="LIMITS", help="per spec: evaluations=N,minutes=M,stall=N (any of them)")
    group.addoption("--kevolve-operators", metavar="NAME[,NAME]", help="who proposes kernels without a model (default: all)")
    group.addoption("--kevolve-policy", metavar="NAME", help="selection policy of the search (default: best-first)")
    group.addoption(
        "--kevolve-model",
        action="append",
        metavar="MODEL[=WEIGHT]",
        help="anthropic:NAME, openai:NAME[@URL], command:'…'; repeatable",
    )
    group.addoption("--kevolve-knowledge", action="append", metavar="DIR", help="documents of one's own besides kevolve's; repeatable")
    group.addoption("--kevolve-evaluator", metavar="spool:DIR", help="leave rounds of candidates in DIR for `kevolve evaluate` elsewhere")
    group.addoption("--kevolve-prompt", metavar="FILE", help="write the prompts of the selected specs' next steps there; nothing is run")
    group.addoption("--kevolve-seed", type=int, metavar="N", help="seed of inputs and search (default: secret, drawn anew)")
    group.addoption("--kevolve-review", action="store_true", help="leave a new kernel beside the old one and print the difference")
    group.addoption("--kevolve-record", metavar="PATH", help="write the run record (JSON) there")
    group.addoption(
        "--kevolve-report", action="append", metavar="PATH", help="write a report there: .html, .json (the record) or .md; repeatable"
    )
    group.addoption("--kevolve-replay", metavar="JSON", help="check one draw only, as a failure printed it")
    group.addoption("--kevolve-require-measured", action="store_true", help="a case that cannot be timed fails instead of being skipped")
    group.addoption(
        "--kevolve-gate",
        nargs="?",
        const="",
        metavar="REV",
        help="judge kernels that changed since REV, old text against new (default: the merge base with the main branch)",
    )
    group.addoption(
        "--kevolve-sandbox",
        choices=SANDBOXES,
        help="confine candidates as far as this system offers it (default), or refuse to run where something is missing",
    )
    parser.addini("kevolve_gate_allowance", "slowdown that --kevolve-gate lets pass, in percent", default="2")
    parser.addini("kevolve_gate_history", "records whose times are shown beside verdicts", type="linelist", default=["reports/*.json"])
    for name in ("target", "language", "budget", "operators", "policy", "sandbox"):
        parser.addini(f"kevolve_{name}", f"default of --kevolve-{name}", default="")
    parser.addini("kevolve_model", "defaults of --kevolve-model, one a line", type="linelist", default=[])
    parser.addini("kevolve_knowledge", "defaults of --kevolve-knowledge, below the rootdir", type="linelist", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Read the options and register the marker."""
    config.addinivalue_line("markers", "kevolve(targets): a case of a kernel spec that only these targets run")
    settings = read_settings(config)
    config.stash[SETTINGS] = settings
    config.pluginmanager.register(reporting.Reporting(settings, _finished), "kevolve-reports")
    if settings.optimise != "off" and settings.untimed:
        raise pytest.UsageError(
            "--kevolve-optimize: expected one process (kernels are timed and written), got xdist workers; drop -n or give -n0"
        )
    if settings.gate is not None:
        from kevolve.gating import Gating

        config.pluginmanager.register(Gating(settings, _run, _subject), "kevolve-gate")


def read_settings(config: pytest.Config) -> Settings:
    """Command line over ini. Raises ``pytest.UsageError`` for names nobody registers and budgets that cannot be read."""

    def chosen(name: str, default: str) -> str:
        return str(config.getoption(f"kevolve_{name}") or config.getini(f"kevolve_{name}") or default)

    worker = bool(os.environ.get("PYTEST_XDIST_WORKER"))  # its rows go to the controller, which writes
    distributed = worker or bool(getattr(config.option, "numprocesses", None))
    settings = Settings(
        rootdir=config.rootpath,
        gate=config.getoption("kevolve_gate"),
        gate_allowance=_share(str(config.getini("kevolve_gate_allowance"))),
        gate_history=tuple(filter(None, config.getini("kevolve_gate_history"))),
        target=chosen("target", "cpu"),
        languages=tuple(name for name in chosen("language", "").split(",") if name),
        optimise=config.getoption("kevolve_optimize"),
        budget=chosen("budget", ""),
        operators=tuple(name for name in chosen("operators", "").split(",") if name),
        policy=chosen("policy", "best-first"),
        models=tuple(config.getoption("kevolve_model") or filter(None, config.getini("kevolve_model"))),
        knowledge=tuple(Path(config.invocation_params.dir, name) for name in _knowledge(config)),
        evaluator=config.getoption("kevolve_evaluator") or "",
        sandbox=chosen("sandbox", "available"),
        seed=config.getoption("kevolve_seed"),
        review=config.getoption("kevolve_review"),
        **reporting.places(config, worker=worker),
        replay=config.getoption("kevolve_replay"),
        require_measured=config.getoption("kevolve_require_measured"),
        untimed="xdist workers share the cores; run without -n to time kernels" if distributed else "",
        cache=Path(os.environ["KEVOLVE_CACHE"]) if os.environ.get("KEVOLVE_CACHE") else None,
    )
    _check_names(settings)
    return settings


def _share(percent: str) -> float:
    try:
        share = float(percent.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise pytest.UsageError(f"kevolve_gate_allowance: expected percent, at least 0 and below 100, got {percent!r}")
    return share


def _knowledge(config: pytest.Config) -> list[str]:
    given = config.getoption("kevolve_knowledge")
    return given or [str(config.rootpath / name) for name in config.getini("kevolve_knowledge")]


def _check_names(settings: Settings) -> None:
    from kevolve import registry

    if settings.sandbox not in SANDBOXES:
        raise pytest.UsageError(f"kevolve_sandbox: expected one of {', '.join(SANDBOXES)}, got {settings.sandbox!r}")
    wanted = [("targets", settings.target), ("policies", settings.policy)]
    wanted += [("languages", name) for name in settings.languages] + [("operators", name) for name in settings.operators]
    for group, name in wanted:
        if name not in registry.names(group):
            known = ", ".join(registry.names(group)) or "none"
            raise pytest.UsageError(f"kevolve: unknown name among {group}: expected one of {known}, got {name!r}")
    if settings.replay is not None:
        try:
            Draw.from_json(settings.replay)
        except ValueError as error:
            raise pytest.UsageError(f"--kevolve-replay: {error}") from error
    if settings.evaluator:
        from kevolve.spool import SpoolError, folder_of

        try:
            folder_of(settings)
        except SpoolError as error:
            raise pytest.UsageError(str(error)) from error
    if settings.budget:
        from kevolve.search.budget import Budget, BudgetError

        try:
            Budget.parse(settings.budget)
        except BudgetError as error:
            raise pytest.UsageError(f"--kevolve-budget: {error}") from error


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Module, name: str, obj: object) -> Generator[None, Any, Any]:
    """Collect a decorated function as one item a benchmark case and one property item."""
    made = yield
    if not hasattr(obj, ATTRIBUTE) or not isinstance(made, list):
        return made
    return list(_items(collector, name, obj, made))


def _items(collector: pytest.Module, name: str, function: Any, made: Sequence[pytest.Item]) -> Iterator[pytest.Item]:
    settings = collector.config.stash[SETTINGS]
    cases = {item: _case(item) for item in made if isinstance(item, pytest.Function)}
    chosen = {item: case for item, case in cases.items() if case.targets is None or settings.target in case.targets}
    nodeid = f"{collector.nodeid}::{name}"
    if cases and not chosen:
        return  # all its cases are other targets'
    try:
        spec = build_spec(function, nodeid=nodeid, cases=tuple(chosen.values()))
    except DeclarationError as error:
        raise collector.CollectError(str(error)) from error
    if spec.targets and settings.target not in spec.targets:
        return
    _claim_folder(collector, spec)
    for item, case in chosen.items():
        item.stash[SPEC], item.stash[CASE] = spec, case
        item.fixturenames.append("request")
        yield item

    def properties() -> None:
        """Stands for the property item; ``pytest_pyfunc_call`` runs it."""

    properties.__doc__ = function.__doc__
    item = pytest.Function.from_parent(collector, name=f"{name}[properties]", callobj=properties)
    item.own_markers.extend(mark for mark in getattr(function, "pytestmark", []) if mark.name != "parametrize")
    item.stash[SPEC] = spec
    yield item


def _claim_folder(collector: pytest.Module, spec: Spec) -> None:
    """One spec a folder of kernels: two tests of one name beside each other would take each other's kernels for their own."""
    if spec.kernel is not None:
        return
    folder = spec.folder / "kernels" / spec.name
    owner = collector.config.stash.setdefault(FOLDERS, {}).setdefault(folder, spec.nodeid)
    if owner != spec.nodeid:
        where = collector.config.stash[SETTINGS].relative(folder)
        raise collector.CollectError(
            f"kernel spec {spec.nodeid}: expected a name of its own, got that of {owner}: the kernels of both would stand in {where}; "
            f"rename one of the two tests"
        )


def _case(item: pytest.Function) -> Case:
    """One parametrisation as a case, with what ``on`` said of it."""
    callspec = getattr(item, "callspec", None)
    marker = item.get_closest_marker("kevolve")
    said = marker.kwargs if marker else {}
    return Case(
        id=callspec.id if callspec else "only",
        values=dict(callspec.params) if callspec else {},
        targets=tuple(said.get("targets", ())) or None,
        min_speedup=said.get("min_speedup"),
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Under ``--kevolve-prompt`` render prompts and run no test; before a search see that its models can be asked."""
    file = session.config.getoption("kevolve_prompt")
    if session.testsfailed or session.config.option.collectonly:
        return None
    if file is None:
        _check_models(session)
        _check_sandbox(session)
        return None
    from kevolve import prompting

    run, specs = _run(session), {item.stash[SPEC].nodeid: item.stash[SPEC] for item in session.items if SPEC in item.stash}
    if not specs:
        raise pytest.UsageError("--kevolve-prompt: expected a kernel spec among the selected tests, got none")
    try:
        rendered = [prompting.render(run, spec) for spec in specs.values()]
    except prompting.Unrenderable as error:
        raise pytest.UsageError(str(error)) from error
    prompting.write(rendered, Path(session.config.invocation_params.dir, file))
    return True


def _check_models(session: pytest.Session) -> None:
    """Models that cannot be asked are a usage error before the first test, not a failure of each."""
    settings = session.config.stash[SETTINGS]
    if settings.optimise == "off" or not settings.models or not any(SPEC in item.stash for item in session.items):
        return
    from kevolve.modelled import Unusable

    try:
        _ = _run(session).model
    except Unusable as error:
        raise pytest.UsageError(f"kevolve: {error}") from error


def _check_sandbox(session: pytest.Session) -> None:
    """A strict run on a system that cannot confine candidates is a usage error before the first test."""
    settings = session.config.stash[SETTINGS]
    if settings.sandbox != "strict" or not any(SPEC in item.stash for item in session.items):
        return
    from kevolve.evaluate import sandbox

    run = _run(session)
    if run.target.missing() is not None:
        return  # its kernels are checked elsewhere, by workers that are as strict
    absent = sandbox.missing(run.workers.isolation(target=run.target, language=run.target.languages[0]))
    if absent:
        named = "".join(f"\n  {name}: {said}" for name, said in absent.items())
        raise pytest.UsageError(
            f"--kevolve-sandbox=strict: expected candidates to be confined in full, this system lacks{named}\n"
            "docs/threat-model.md says what each is for and where it can be had; without strict it is done without"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a property item or a benchmark case in place of the test function."""
    spec = pyfuncitem.stash.get(SPEC, None)
    if spec is None:
        return None
    from kevolve.rows import plan_properties
    from kevolve.run import unavailable

    run = _run(pyfuncitem.session)
    if run.settings.optimise != "off":
        run.optimise_if_needed(spec, _selected_cases(pyfuncitem.session, spec), _coming(pyfuncitem))
        cast(Console, run.console).resume(pyfuncitem.nodeid)
    if CASE in pyfuncitem.stash:
        result = run.case(spec, pyfuncitem.stash[CASE])
        run.save()
        _report_case(pyfuncitem, result, run.settings)
    else:
        outcome = run.properties(spec)
        run.save()
        _add_properties(pyfuncitem, plan_properties(run.property_rows[spec.nodeid]))
        if unavailable(outcome) and not run.settings.require_measured:
            pytest.skip(outcome.message)
        if not outcome.passed:
            pytest.fail(reporting.inert(outcome.message, run.settings), pytrace=False)
    return True


def _subject(item: pytest.Item) -> tuple[Spec | None, Case | None]:
    """The spec of a kernel's item, and its case; no case for a property item."""
    return item.stash.get(SPEC, None), item.stash.get(CASE, None)


def _selected_cases(session: pytest.Session, spec: Spec) -> tuple[Case, ...]:
    """The cases of ``spec`` that this run selected, by -k, -m or node id."""
    items = [item for item in session.items if item.stash.get(SPEC, None) is spec and CASE in item.stash]
    return tuple(item.stash[CASE] for item in items)


def _coming(item: pytest.Function) -> Iterator[tuple[Spec, tuple[Case, ...]]]:
    """The specs of the tests after ``item``, with their cases. None under xdist: which of them this process gets is not known."""
    session = item.session
    if hasattr(session.config, "workerinput"):
        return
    after = session.items[session.items.index(item) + 1 :]
    specs = {spec.nodeid: spec for one in after if (spec := one.stash.get(SPEC, None)) is not None}
    yield from ((spec, _selected_cases(session, spec)) for spec in specs.values())


def _report_case(item: pytest.Function, result: CaseResult, settings: Settings) -> None:
    """Turn a case's result into a test result, and hand its device times to pytest-benchmark."""
    _add_properties(item, result.properties)
    if result.samples_s and item.config.pluginmanager.has_plugin("benchmark"):
        _show_benchmark(item, result)
    if result.failed:
        pytest.fail(reporting.inert(result.message, settings), pytrace=False)
    if result.unmeasured:
        if settings.require_measured:
            pytest.fail(f"not measured: {result.unmeasured} (--kevolve-require-measured)", pytrace=False)
        pytest.skip(f"{'correct; ' if result.checked else ''}not measured: {result.unmeasured}")


def _add_properties(item: pytest.Item, properties: Mapping[str, Any]) -> None:
    """For JUnit, and whoever else reads the test's report."""
    item.user_properties.extend((f"kevolve_{name}", value) for name, value in properties.items())


class DeviceClock:
    """A timer that replays device times, so that pytest-benchmark shows them as its own."""

    def __init__(self, name: str, samples_s: Sequence[float]) -> None:
        self.name = name
        self._readings = [0.0]
        for sample in samples_s:
            self._readings += [self._readings[-1], self._readings[-1] + sample]
        self._next = 0

    def __call__(self) -> float:
        """The next reading, in seconds."""
        self._next += 1
        return self._readings[min(self._next, len(self._readings) - 1)]

    def __repr__(self) -> str:
        return f"kevolve device clock ({self.name})"


def _show_benchmark(item: pytest.Function, result: CaseResult) -> None:
    item.add_marker(pytest.mark.benchmark(timer=DeviceClock(result.clock, result.samples_s), group=item.stash[SPEC].name))
    request = cast(pytest.FixtureRequest, item.funcargs["request"])
    benchmark = request.getfixturevalue("benchmark")
    benchmark.extra_info.update(result.properties)
    benchmark.pedantic(lambda: None, rounds=len(result.samples_s), iterations=1)


def _run(session: pytest.Session) -> Run:
    """The run's state, made at the first kernel item."""
    if RUN not in session.config.stash:
        from dataclasses import replace

        from kevolve.run import Run

        settings = replace(session.config.stash[SETTINGS], sys_path=tuple(path for path in sys.path if path))
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        capture = session.config.pluginmanager.get_plugin("capturemanager")
        session.config.stash[RUN] = Run(settings, Console(reporter, capture))
    return session.config.stash[RUN]


class Console:
    """The terminal as a run sees it, around pytest's capturing."""

    def __init__(self, reporter: Any, capture: Any) -> None:
        self._reporter, self._capture = reporter, capture
        self._told = False  # whether lines of ours stand where pytest's was

    def line(self, text: str) -> None:
        """Write one line at once."""
        if self._reporter is None:
            return
        self._told = True
        with self.uncaptured():
            self._reporter.ensure_newline()
            self._reporter.write_line(text)

    def progress(self) -> Listener:
        """Live on a terminal that can be redrawn, one plain line an attempt elsewhere."""
        from kevolve.report.progress import LiveProgress, PlainProgress

        if self._reporter is None or not self._reporter.isatty:
            return PlainProgress(self.line)
        from rich.console import Console as Terminal

        terminal = Terminal()
        if terminal.is_dumb_terminal:  # nothing can be redrawn there, and rich would show nothing at all
            return PlainProgress(self.line)
        self._told = True
        self._reporter.ensure_newline()
        return LiveProgress(terminal, time.monotonic)

    def resume(self, nodeid: str) -> None:
        """Begin pytest's line of this file again, after lines of ours: else a test's letter would stand alone."""
        if self._told and self._reporter is not None and self._reporter.showfspath:
            with self.uncaptured():
                self._reporter.write_fspath_result(nodeid, "")
        self._told = False

    def uncaptured(self) -> AbstractContextManager[None]:
        """Pytest's capturing suspended; nothing where it is switched off."""
        return nullcontext() if self._capture is None else self._capture.global_and_fixture_disabled()


def _finished(config: pytest.Config) -> Record | None:
    """What this process judged, its worker processes stopped; None where it judged nothing and nobody waits for a report."""
    run = config.stash.get(RUN, None)
    if run is None:
        return None
    settings = run.settings
    awaited = settings.reports or settings.record or settings.summary or hasattr(config, "workeroutput")
    record = run.record if run.found or awaited else None
    run.finish()
    return record
