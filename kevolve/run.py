"""One run over a session's specs: judges kernels, remembers what it found and makes the rows of the record."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from kevolve import elsewhere, registry, rows
from kevolve.entry import Entry
from kevolve.evaluate import counterexamples
from kevolve.evaluate.ahead import architecture, compile_ahead, shapes
from kevolve.evaluate.baselines import Templates
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import ChildFailed, Workers
from kevolve.evaluate.device_figures import DeviceFigures
from kevolve.evaluate.materialise import elements
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan, make_plan, of_draws
from kevolve.evaluate.runner import SideFailed
from kevolve.evaluate.timing import Measurement, measure
from kevolve.languages import Language
from kevolve.report.environment import describe
from kevolve.report.progress import Listener
from kevolve.report.record import Environment, Properties, Record, Result, Verdict, write
from kevolve.search.accept import KernelFile, find_kernel, folder_of
from kevolve.searched import Searched, address, with_texts
from kevolve.settings import Settings
from kevolve.spec.spec import Case, Draw, Spec, decode
from kevolve.targets import Peaks, Target

if TYPE_CHECKING:
    from kevolve.evaluate.pools import Pools
    from kevolve.modelled import Modelled
    from kevolve.optimise import Turns

CHECK_TIMEOUT_S = COMPILE_TIMEOUT_S = 120.0
Ask: TypeAlias = Callable[[], bool]


class Console(Protocol):
    """Where progress goes."""

    def line(self, text: str) -> None:
        """Write one line at once."""
        ...

    def progress(self) -> Listener:
        """What follows a search: live on a terminal, a line an attempt elsewhere."""
        ...

    def uncaptured(self) -> AbstractContextManager[None]:
        """Pytest's capturing suspended, so that progress is seen while a test runs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What a benchmark case's test reports. ``samples_s``: the kernel's device times, seconds a call."""

    failed: bool
    message: str = ""
    unmeasured: str = ""
    checked: bool = True  # whether an unmeasured case was found to be correct
    samples_s: Sequence[float] = ()
    clock: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The kernel under test: a built candidate, or why there is none. ``file`` is None for a callable that exists already."""

    candidate: Candidate | None
    outcome: Outcome | None
    file: KernelFile | None = None


class Run:
    """The state of one session. Everything is made when first needed."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings, self.console = settings, console
        self.seed = settings.seed if settings.seed is not None else secrets.randbits(62)
        self.rows: dict[tuple[str, str], Result] = {}
        self.property_rows: dict[str, Properties] = {}
        self.verdicts: dict[tuple[str, str], Verdict] = {}  # of a gate, by node id and case
        self.old_texts: dict[str, str] = {}  # of kernels that a gate compared, by their SHA-256
        self.evaluations: dict[str, int] = {}
        self.searches: list[Searched] = []
        self._sources: dict[str, str] = {}  # of kernels judged, by their SHA-256
        self._fruitless: dict[str, str] = {}  # what became of searches that found nothing, by spec
        self._kernels: dict[str, Kernel] = {}
        self._properties: dict[str, Outcome] = {}
        self._measured: dict[tuple[str, str], Measurement] = {}
        self._entry = Entry(self.seed)
        self._indexed: dict[str, frozenset[str]] = {}

    @cached_property
    def target(self) -> Target:
        """Where kernels run."""
        return registry.load("targets", self.settings.target)  # type: ignore[no-any-return]

    @cached_property
    def workers(self) -> Workers:
        """The processes that run candidates."""
        scratch = self.settings.store / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        return Workers(sys_path=self.settings.sys_path, scratch=scratch, cache=self.cache, strict=self.settings.sandbox == "strict")

    @cached_property
    def templates(self) -> Templates:
        """Compiled references, each compiled once a run."""
        return Templates(self.workers)

    @cached_property
    def figures(self) -> DeviceFigures:
        """What every timing needs of the device."""
        return DeviceFigures(self.target, self.workers, self.cache)

    @property
    def peaks(self) -> Peaks:
        """What the device can do, measured once and kept."""
        return self.figures.peaks

    @cached_property
    def model(self) -> Modelled | None:
        """The operator that asks the user's models, one for all specs; None where no model was given. Raises ``modelled.Unusable``."""
        from kevolve.modelled import modelled

        return modelled(self.settings)

    @property
    def cache(self) -> Path:
        """Where built kernels and measured peaks are kept."""
        folder = self.settings.cache or self.settings.store / "cache"
        ignore = self.settings.store / ".gitignore"
        if not ignore.exists():
            self.settings.store.mkdir(parents=True, exist_ok=True)
            ignore.write_text("# Made by kevolve.\n*\n")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def languages(self, spec: Spec) -> tuple[Language, ...]:
        """The languages kernels of ``spec`` may be written in here, in order of preference."""
        names = self.settings.languages or tuple(name for name in self.target.languages if not spec.languages or name in spec.languages)
        return tuple(registry.load("languages", name) for name in names)

    # -- judging ---------------------------------------------------------------------------------------------------

    def kernel(self, spec: Spec) -> Kernel:
        """The kernel under test, built."""
        if spec.nodeid not in self._kernels:
            self._kernels[spec.nodeid] = self._find(spec)
        return self._kernels[spec.nodeid]

    def forget(self, spec: Spec) -> None:
        """Judge ``spec`` anew: its kernel changed."""
        self._kernels.pop(spec.nodeid, None)
        self._properties.pop(spec.nodeid, None)
        for key in [key for key in self._measured if key[0] == spec.nodeid]:
            del self._measured[key]

    def found_none(self, spec: Spec, tried: str) -> None:
        """A search for ``spec`` wrote no kernel: who misses it is told what was ``tried``."""
        self._fruitless[spec.nodeid] = tried
        if self.kernel(spec).file is None:
            self.forget(spec)

    def _find(self, spec: Spec) -> Kernel:
        if spec.kernel is not None:
            name = spec.kernel
            return Kernel(candidate=Candidate(name=name, language="python", entry=spec.name, callable=name), outcome=None)
        file = self.file(spec)
        if file is None:
            message = self._no_kernel(spec)
            missing = Outcome(status=Status.NOT_MEASURED, stage=Stage.LOAD, message=message, detail={"kernel": "missing"})
            return Kernel(candidate=None, outcome=missing)
        if self.target.missing() is not None:
            return Kernel(candidate=None, outcome=self._no_device(spec, file), file=file)
        built = self.build(spec, file.source, file.language)
        if isinstance(built, Outcome):
            return Kernel(candidate=None, outcome=built, file=file)
        return Kernel(candidate=built, outcome=None, file=file)

    def file(self, spec: Spec) -> KernelFile | None:
        """The kernel file of ``spec``, unbuilt; None where there is none, or a callable stands for it."""
        if spec.kernel is not None:
            return None
        languages = self.languages(spec)
        found = (find_kernel(spec, self.target.name, arch, languages) for arch in elsewhere.architectures(self.target))
        return next(filter(None, found), None)

    def build(self, spec: Spec, source: str, language: str) -> Candidate | Outcome:
        """Build one source for this run's target."""
        return build(source, language, spec=spec, target=self.target, cache=self.cache, timeout_s=COMPILE_TIMEOUT_S)

    def _no_kernel(self, spec: Spec) -> str:
        names = " or ".join(f"{self.target.name}{language.suffix}" for language in self.languages(spec))
        folder = self.settings.relative(folder_of(spec))
        command = f"pytest '{spec.nodeid}' --kevolve-optimize --kevolve-target {self.target.name}"
        tried = self._fruitless.get(spec.nodeid)
        then = f"the search found none that may be written: {tried}" if tried else f"make one: {command}"
        return f"no kernel of {spec.name} for target {self.target.name}: expected {folder}/{names}\n{then}"

    def properties(self, spec: Spec) -> Outcome:
        """Check the whole property plan (or the one draw of ``--kevolve-replay``), once a run."""
        if spec.nodeid not in self._properties:
            self._properties[spec.nodeid] = self._check_properties(spec)
        outcome = self._properties[spec.nodeid]
        row = rows.properties(spec, self.target.name, self._language(spec), outcome, self._kernel_row(spec))
        self.property_rows[spec.nodeid] = replace(row, extra={**row.extra, **self._entry.row(spec)})
        return outcome

    def _check_properties(self, spec: Spec) -> Outcome:
        kernel = self.kernel(spec)
        refused = self._refused(spec, kernel)
        if refused is kernel.outcome and kernel.file is not None and self.target.missing() is not None:
            return self._elsewhere(spec, kernel.file)
        if refused is not None or kernel.candidate is None:
            return refused or Outcome(status=Status.RUNTIME_ERROR, stage=Stage.LOAD, message="no kernel")
        if (replay := self._replay(spec)) is not None:
            return self.check(spec, kernel.candidate, of_draws(spec, [replay]))
        return self.check(spec, kernel.candidate, self.plan(spec, kernel.candidate.language, self.seed))

    def _replay(self, spec: Spec) -> Draw | None:
        """The one draw to check, where the user names it."""
        return None if self.settings.replay is None else decode(spec, Draw.from_json(self.settings.replay))

    def _elsewhere(self, spec: Spec, file: KernelFile) -> Outcome:
        """What can be said of a kernel whose device is not here."""
        judged = elsewhere.Elsewhere(
            workers=self.workers,
            spec=spec,
            file=file,
            target=self.target,
            seed=self.seed,
            cache=self.cache,
            check_timeout_s=CHECK_TIMEOUT_S,
            compile_timeout_s=COMPILE_TIMEOUT_S,
            jobs=_cores(),
            replay=self._replay(spec),
        )
        return judged.judge()

    def plan(self, spec: Spec, language: str, seed: int, *, huge: bool = True) -> Plan:
        """The property plan for a seed. ``huge``: with a draw beyond 2^31 elements where there can be one."""
        return make_plan(spec, seed=seed, cap=self.target.largest(language), memory_bytes=self.workers.limits.memory_bytes, huge=huge)

    def check(self, spec: Spec, candidate: Candidate, plan: Plan) -> Outcome:
        """Check one candidate on a plan in a process of its own, counterexamples of earlier runs first."""
        kept = counterexamples.load(spec) if len(plan.draws) > 1 else ()
        compiled = self.compiled(spec, candidate, plan)
        if isinstance(compiled, Outcome):
            return compiled
        outcome = check(self.workers, spec, compiled, plan, target=self.target, deadline_s=CHECK_TIMEOUT_S, kept=kept)
        return replace(outcome, detail={**outcome.detail, **compiled.said})

    def compiled(self, spec: Spec, candidate: Candidate, plan: Plan) -> Candidate | Outcome:
        """The candidate with what a plan's draws launch compiled, where that can be done before the device is held."""
        arch = architecture(self.target)
        if arch is None:
            return candidate
        wanted = shapes(spec, (), plan)
        return compile_ahead(
            self.workers, spec, candidate, wanted, target=self.target, arch=arch, deadline_s=COMPILE_TIMEOUT_S, jobs=_cores()
        )

    def _refused(self, spec: Spec, kernel: Kernel) -> Outcome | None:
        """Why nothing can be run: the target, the spec or the kernel itself."""
        missing = self.target.missing()
        if missing is not None and kernel.file is None:
            return Outcome(status=Status.NOT_MEASURED, stage=Stage.LOAD, message=f"target {self.target.name}: {missing}")
        problem = self.spec_problem(spec)
        if problem is not None:
            return Outcome(status=Status.RUNTIME_ERROR, stage=Stage.LOAD, message=problem)
        return kernel.outcome

    def _no_device(self, spec: Spec, file: KernelFile) -> Outcome:
        """Why a case is not timed, and what the property item says instead."""
        doing = elsewhere.planned(self.target, registry.load("languages", file.language))
        message = f"target {self.target.name}: {self.target.missing()}" + (f"; the property item {doing}" if doing else "")
        return Outcome(status=Status.NOT_MEASURED, stage=Stage.LOAD, message=message)

    def spec_problem(self, spec: Spec) -> str | None:
        """Why no kernel of ``spec`` can be judged: its reference refuses its inputs, or an impostor passes it. Tried once a spec."""
        return self._entry.problem(spec, self.cache)

    def case(self, spec: Spec, case: Case) -> CaseResult:
        """Check a benchmark case at its own size, then time it."""
        kernel = self.kernel(spec)
        outcome = self._refused(spec, kernel)
        if outcome is not None or kernel.candidate is None:
            outcome = outcome or Outcome(status=Status.RUNTIME_ERROR, stage=Stage.LOAD, message="no kernel")
            if unavailable(outcome):
                row = self._row(spec, case, rows.unmeasured(outcome.message))
                return CaseResult(failed=False, unmeasured=outcome.message, checked=False, properties=rows.user_properties(row))
            return self._failed(spec, case, outcome)
        reason = self._untimed(kernel.candidate.language)
        if reason and (spec.nodeid, case.id) not in self._measured:
            return self._check_only(spec, case, kernel.candidate, reason)
        measurement = self.measurement(spec, case, kernel.candidate)
        return self._result(spec, case, measurement)

    def measurement(self, spec: Spec, case: Case, candidate: Candidate) -> Measurement:
        """The paired timing of one case; a wrong kernel is never timed. Once a run."""
        key = (spec.nodeid, case.id)
        if key not in self._measured:
            self._measured[key] = self.measure(spec, case, candidate, self.seed)
        return self._measured[key]

    def measure(
        self, spec: Spec, case: Case, candidate: Candidate, seed: int, *, right: Ask | None = None, pools: Pools | None = None
    ) -> Measurement:
        """Check the case at its own size, then time it against every baseline.

        ``right``: asked between the two; else it is not timed. ``pools``: contents that several candidates share, made under ``seed`` too.
        """
        outcome = self.check(spec, candidate, of_draws(spec, [Draw(values=case.values, seed=seed)]))
        if not outcome.passed:
            return rows.failed(outcome)
        if right is not None and not right():
            return rows.unmeasured("a kernel that fails its properties is not timed")
        said = {name: outcome.detail[name] for name in ("resources", "ahead") if name in outcome.detail}
        try:
            between, peaks = self.figures.both()
        except (ChildFailed, SideFailed) as error:
            return rows.unmeasured(f"the scatter between processes, which every interval here needs, could not be measured: {error}")
        timed = partial(
            measure,
            self.workers,
            spec,
            case,
            candidate,
            target=self.target,
            baselines=spec.baseline,
            seed=seed,
            scatter=between,
            templates=self.templates,
            pool=pools.of(case) if pools is not None else None,
            unread=self.unread(spec),
        )
        measured = timed(peaks=peaks)
        if measured.outcome.status is Status.SUSPECT and (higher := self.figures.peaks_again()) != peaks:
            measured = timed(peaks=higher)
        return replace(measured, outcome=replace(measured.outcome, detail={**measured.outcome.detail, **said}))

    def unread(self, spec: Spec) -> frozenset[str]:
        """Inputs that the reference reads in part, through an index: their bytes are no floor."""
        if spec.work is None and spec.hash not in self._indexed:
            from kevolve.operators.trace import trace_reference

            self._indexed[spec.hash] = frozenset(trace_reference(spec, target=self.target.name).indexed_inputs)
        return self._indexed.get(spec.hash, frozenset())

    def keep(self, spec: Spec, checked: Outcome, measured: Mapping[str, Measurement]) -> None:
        """Remember an acceptance's check of a whole plan and its measurements, by case id: they are this run's results."""
        if self.settings.replay is None:
            self._properties[spec.nodeid] = checked
        self._measured.update({(spec.nodeid, case): measurement for case, measurement in measured.items()})

    def _untimed(self, language: str) -> str:
        """Why kernels of ``language`` are not timed in this run, or nothing."""
        return self.settings.untimed or self.target.unmeasured(language) or ""

    def _check_only(self, spec: Spec, case: Case, candidate: Candidate, reason: str) -> CaseResult:
        cap = self.target.largest(candidate.language)
        if cap is not None and elements(spec, case.values) > cap:
            reason += f"; not checked at this size either (more than {cap} elements), the property item decides"
        else:
            outcome = self.check(spec, candidate, of_draws(spec, [Draw(values=case.values, seed=self.seed)]))
            if not outcome.passed:
                return self._failed(spec, case, outcome)
        row = self._row(spec, case, rows.unmeasured(reason))
        return CaseResult(failed=False, unmeasured=reason, properties=rows.user_properties(row))

    def _failed(self, spec: Spec, case: Case, outcome: Outcome) -> CaseResult:
        row = self._row(spec, case, rows.failed(outcome))
        return CaseResult(failed=True, message=outcome.message, properties=rows.user_properties(row))

    def _result(self, spec: Spec, case: Case, measurement: Measurement) -> CaseResult:
        row = self._row(spec, case, measurement)
        outcome = measurement.outcome
        properties = rows.user_properties(row)
        if outcome.status is Status.NOT_MEASURED:
            return CaseResult(failed=False, unmeasured=outcome.message, properties=properties)
        if not outcome.passed:
            return CaseResult(
                failed=True, message=outcome.message, samples_s=measurement.samples_s, clock=self.target.name, properties=properties
            )
        return CaseResult(failed=False, samples_s=measurement.samples_s, clock=self.target.name, properties=properties)

    # -- optimising ------------------------------------------------------------------------------------------------

    def optimise_if_needed(self, spec: Spec, cases: Sequence[Case], coming: Iterable[tuple[Spec, Sequence[Case]]] = ()) -> None:
        """Under ``--kevolve-optimize``: search for a kernel where the present one fails, is slow or is missing; once a spec.

        ``coming``: the specs after it, with their cases.
        """
        if self.settings.optimise != "off" and spec.kernel is None:
            with self.console.uncaptured():
                self._turns.take(spec, cases, coming)

    @cached_property
    def _turns(self) -> Turns:
        from kevolve.optimise import Turns

        return Turns(self)

    def optimisable(self, spec: Spec) -> bool:
        """Whether kernels of ``spec`` can be judged, here or by another machine."""
        return (self.target.missing() is None or bool(self.settings.evaluator)) and self.spec_problem(spec) is None

    # -- what people see -------------------------------------------------------------------------------------------

    def _language(self, spec: Spec) -> str | None:
        kernel = self.kernel(spec)
        return kernel.candidate.language if kernel.candidate else (kernel.file.language if kernel.file else None)

    def _kernel_row(self, spec: Spec) -> Any:
        kernel = self.kernel(spec)
        path = kernel.file.path if kernel.file else None
        row = rows.kernel(path, self.settings.relative(path) if path else None, spec.kernel)
        if row is not None and row.hash is not None and kernel.file is not None and address(kernel.file.source) == row.hash:
            self._sources[row.hash] = kernel.file.source
        return row

    def _row(self, spec: Spec, case: Case, measurement: Measurement) -> Result:
        row = rows.result(
            spec,
            case,
            target=self.target.name,
            language=self._language(spec),
            measurement=measurement,
            kernel=self._kernel_row(spec),
            evaluations=self.evaluations.get(spec.nodeid),
        )
        self.rows[spec.nodeid, case.id] = row = replace(row, extra={**row.extra, **self._entry.counts(spec)})
        return row

    @cached_property
    def environment(self) -> Environment:
        """Where this run ran; the workers are asked what isolates them."""
        languages = [registry.load("languages", name) for name in self.target.languages]
        isolation = self.workers.isolation(target=self.target, language=self.target.languages[0])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return describe(self.target, languages, isolation=isolation, root=self.settings.rootdir, date=now)

    @property
    def record(self) -> Record:
        """The run as a record, as far as it has come."""
        peaks = self.figures.known_peaks if "figures" in self.__dict__ else None  # never measured for the record alone
        known = {"peaks": rows.peaks(peaks)} if peaks is not None else {}
        alone = Record(
            environment=replace(self.environment, extra={**self.environment.extra, **known}),
            results=tuple(self.rows.values()),
            properties=tuple(self.property_rows.values()),
            gate=tuple(self.verdicts.values()),
            searches=tuple(one.row for one in self.searches),
        )
        return with_texts(alone, {**self._sources, **self.old_texts}, self.searches)

    @property
    def found(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.rows or self.property_rows or self.verdicts)

    def save(self) -> None:
        """Write the record where one was asked for: after every item, so that a run that is killed leaves what it found."""
        if self.found and self.settings.record is not None:
            write(self.record, self.settings.record)

    def finish(self) -> None:
        """Stop the worker processes, and a search for which nobody waits any more."""
        turns = self.__dict__.get("_turns")
        if turns is not None:
            turns.abandon()
        if "workers" in self.__dict__:
            if "templates" in self.__dict__:
                self.templates.close()
            self.workers.close()
        if turns is not None:
            turns.close()


def unavailable(outcome: Outcome) -> bool:
    """Whether nothing could be run here (no device, no compiler), which is nobody's fault; a missing kernel is not that."""
    return outcome.status is Status.NOT_MEASURED and outcome.detail.get("kernel") != "missing"


def _cores() -> int:
    return len(os.sched_getaffinity(0))
