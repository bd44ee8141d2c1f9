"""What a session's gate does: for every spec whose kernel changed since a revision, a verdict a case, or one for the kernel."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from kevolve import elsewhere, registry
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import ChildFailed, ServerFailed, Workers
from kevolve.evaluate.device_figures import DeviceFigures
from kevolve.evaluate.disturbance import Reading, Since, why
from kevolve.evaluate.moved import Moved
from kevolve.evaluate.oracle import ReferenceFailed
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan, of_draws
from kevolve.evaluate.runner import SideFailed
from kevolve.evaluate.timing import timed_pool
from kevolve.gate import messages
from kevolve.gate.callables import LANGUAGE, callable_change, export
from kevolve.gate.changes import Change, Kind, change, removed
from kevolve.gate.figured import Compare, Figured, figured
from kevolve.gate.history import History, Stored
from kevolve.gate.paired import Comparison, Untimed
from kevolve.gate.revision import Revision
from kevolve.gate.verdict import LAUNCHED, Finding, Judgement, Rules
from kevolve.languages import Language
from kevolve.report.record import Environment, Side, Speedup, Verdict
from kevolve.search.accept import KernelFile, folder_of
from kevolve.settings import Settings
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets import Target

_TIMED = (Status.PASSED, Status.TOO_SLOW, Status.NOT_MEASURED)  # of the ordinary run: a wrong kernel is never timed


class Runs(Protocol):
    """What a gate needs of a run."""

    settings: Settings
    seed: int
    verdicts: dict[tuple[str, str], Verdict]  # what the gate found, by node id and case, "" for a whole kernel
    old_texts: dict[str, str]  # of what it compared, by their SHA-256

    @property
    def target(self) -> Target: ...  # noqa: D102  # as in `Run`
    @property
    def environment(self) -> Environment: ...  # noqa: D102
    @property
    def workers(self) -> Workers: ...  # noqa: D102
    @property
    def cache(self) -> Path: ...  # noqa: D102
    @property
    def figures(self) -> DeviceFigures: ...  # noqa: D102
    def languages(self, spec: Spec) -> tuple[Language, ...]: ...  # noqa: D102
    def file(self, spec: Spec) -> KernelFile | None: ...  # noqa: D102
    def kernel(self, spec: Spec) -> Any: ...  # noqa: D102
    def build(self, spec: Spec, source: str, language: str) -> Candidate | Outcome: ...  # noqa: D102
    def check(self, spec: Spec, candidate: Candidate, plan: Plan) -> Outcome: ...  # noqa: D102
    def plan(self, spec: Spec, language: str, seed: int, *, huge: bool = True) -> Plan: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why the old kernel is nothing to compare with, and the verdict of the new one that follows."""

    verdict: str
    reason: str


class Gate:
    """The state of one session's gate.

    ``load``: work that waits for a core on average; ``reading``: the machine's counters now; ``history``: times of earlier runs.
    """

    def __init__(
        self,
        run: Runs,
        revision: Revision,
        rules: Rules,
        *,
        compare: Compare | None,
        load: Callable[[], float],
        cores: int,
        reading: Callable[[], Reading] | None = None,
        history: History | None = None,
    ) -> None:
        self.revision, self.rules, self.history = revision, rules, history or History(())
        self._run, self._compare, self._load, self._cores, self._reading = run, compare, load, cores, reading
        self._changes: dict[str, Change | None] = {}
        self._olds: dict[str, Candidate | Refused] = {}
        self._figured: dict[str, Figured] = {}
        self._tree: Moved | None = None  # the revision's, for callables

    # -- what changed ----------------------------------------------------------------------------------------------

    def change(self, spec: Spec) -> Change | None:
        """What became of the kernel of ``spec``; None where no file of the repository is its kernel."""
        if spec.nodeid not in self._changes:
            self._changes[spec.nodeid] = self._changed(spec)
        return self._changes[spec.nodeid]

    def _changed(self, spec: Spec) -> Change | None:
        if spec.kernel is not None:
            return callable_change(spec, self.revision)
        file = self._run.file(spec)
        if file is None:
            return None
        arches, languages = elsewhere.architectures(self._run.target), self._run.languages(spec)
        return change(spec, file, self.revision, target=self._run.target.name, arches=arches, languages=languages)

    def idle(self, spec: Spec) -> str | None:
        """Why the tests of ``spec`` need not run: nothing that they test has changed; None where they must."""
        found = self.change(spec)
        if found is None or not found.idle:
            return None
        if found.kind is Kind.UNCHANGED:
            return f"unchanged since {self.revision}"
        reason = f"only comments and layout changed since {self.revision}"
        self._say(spec, None, found, verdict="same", message=reason)
        return f"same: {reason}"

    def hint(self, spec: Spec) -> str:
        """What to add where a kernel is missing: that the revision had one."""
        folder = self.revision.below(folder_of(spec))
        gone = [path for path in removed(self.revision, self._run.target.name, self._run.languages(spec)) if path.parent == folder]
        return "".join(f"\nit was there at {self.revision}: git checkout {self.revision.short} -- {path}" for path in gone)

    # -- verdicts --------------------------------------------------------------------------------------------------

    def case(self, spec: Spec, case: Case, status: Status, said: str) -> Verdict | None:
        """The verdict of one case after its ordinary run, which found ``status`` and ``said`` so; None where no verdict is due."""
        found = self.change(spec)
        if found is None or found.kind in (Kind.UNCHANGED, Kind.SAME):
            return None  # the spec changed alone: the ordinary run decides
        if status not in _TIMED:
            message = messages.wrong(_name(spec, case), said, old=self._old_side(found), new=self._new_side(found))
            return self._say(spec, case, found, verdict="wrong", message=message)
        if found.old is None:
            return self._say(spec, None, found, verdict=found.kind.value, message=self._nothing(found))  # one row a kernel
        reason = self._untimed(found)
        if reason is not None:
            return self._say(spec, case, found, verdict="unmeasurable", message=reason)
        return self._timed(spec, case, found)

    def properties(self, spec: Spec, status: Status, said: str) -> Verdict | None:
        """The verdict of the whole kernel after its property check; of one that is right and can be timed the cases decide."""
        found = self.change(spec)
        if found is None or found.kind in (Kind.UNCHANGED, Kind.SAME):
            return None
        if status not in _TIMED:
            message = messages.wrong(spec.name, said, old=self._old_side(found), new=self._new_side(found))
            return self._say(spec, None, found, verdict="wrong", message=message)
        reason = self._untimed(found)
        if found.old is None:
            return self._say(spec, None, found, verdict=found.kind.value, message=self._nothing(found))
        if reason is not None:
            return self._static(spec, found, reason)
        if found.kind is Kind.RENAMED:
            return self._say(spec, None, found, verdict="renamed", message=f"{found.old.path} at {self.revision}")
        return None

    def _nothing(self, found: Change) -> str:
        new = self._new_side(found).path
        if found.kind is Kind.BASELINE:
            return (
                f"nothing to compare {new} with: {self.revision} has no kernel for target {self._run.target.name}; recorded as the baseline"
            )
        return f"{new} is new since {self.revision}: held against the reference only"

    def _untimed(self, found: Change) -> str | None:
        """Why nothing is timed in this run; None where it is."""
        run = self._run
        missing = run.target.missing()
        if missing is not None:
            return f"no device: target {run.target.name}: {missing}"
        reason = run.target.unmeasured(found.new.language)
        if reason is None and run.settings.untimed and not self._locked:
            reason = run.settings.untimed
        return reason

    @property
    def _locked(self) -> bool:
        """Whether the device is one that timings of several processes take in turn, without needing the host's cores for it."""
        lock_path = getattr(self._run.target, "lock_path", None)
        return not self._run.target.shares_cores and lock_path is not None and lock_path() is not None

    def _timed(self, spec: Spec, case: Case, found: Change) -> Verdict:
        old = self._old(spec, found)
        if isinstance(old, Candidate):
            old = self._right_here(spec, case, old, found)
        if isinstance(old, Refused):
            return self._say(spec, case, found, verdict=old.verdict, message=old.reason)
        new: Candidate = self._run.kernel(spec).candidate
        before = self._reading() if self._reading is not None else None
        try:
            with timed_pool(spec, case, seed=self._run.seed) as pool:
                comparison = Comparison(
                    workers=self._run.workers,
                    spec=spec,
                    case=case,
                    old=old,
                    new=new,
                    target=self._run.target,
                    pool=pool,
                    scatter=self._run.figures.scatter,
                    launched=not self._run.settings.untimed,
                    believed=not self._run.settings.untimed,
                )
                judged = comparison.judge(self.rules, self._run.seed)
        except (Untimed, ReferenceFailed, ChildFailed, SideFailed, ServerFailed) as error:
            return self._say(spec, case, found, verdict="unmeasurable", message=f"{_name(spec, case)}: {error}")
        return self._judged(spec, case, found, self._with_load(judged, before))

    def _judged(self, spec: Spec, case: Case, found: Change, judged: Judgement) -> Verdict:
        slower = judged.finding is Finding.SLOWER
        figures = self._figures(spec, found) if slower else Figured()
        look = judged.look
        old, new = (
            replace(side, time_us=times.get(LAUNCHED), extra={"form": judged.form, "form_us": times[judged.form]})
            for side, times in ((self._old_side(found), look.old_us), (self._new_side(found), look.new_us))
            if side is not None
        )
        again = f"pytest '{spec.nodeid}[{case.id}]' --kevolve-gate={self.revision.short} --kevolve-target {self._run.target.name}"
        stored, now = self._stored(spec, case, found, judged.form), look.new_us[judged.form]
        past = stored.line(now) if stored is not None else ""
        message = messages.timed(_name(spec, case), judged, self.rules, old=old, new=new, cause=figures.cause, again=again, history=past)
        row = self._row(spec, case, found, verdict=judged.finding.value, message=message)
        ratio = Speedup(estimate=judged.ratio.estimate, low=judged.ratio.low, high=judged.ratio.high)
        extra: dict[str, Any] = {"form": judged.form, "pairs": look.pairs, "method": look.method}
        if stored is not None:
            extra["history"] = stored.to_json(now)
        return self._keep(spec, case, replace(row, old=old, new=new, ratio=ratio, figures=figures.figures, extra=extra))

    def _stored(self, spec: Spec, case: Case, found: Change, form: str) -> Stored | None:
        if self.history.empty:
            return None
        return self.history.of(spec.name, case.id, self._run.target.name, found.new.language, form, self._run.environment)

    def _with_load(self, judged: Judgement, before: Reading | None) -> Judgement:
        """Name what is known to have disturbed a verdict that could not be reached: by the machine's counters, else by its load."""
        if judged.finding is not Finding.UNCLEAR:
            return judged
        load, known = self._load(), before is not None and self._reading is not None
        since = Since(before=before, reading=self._reading).reasons() if known else ()  # type: ignore[arg-type]  # both are there
        if since:
            return replace(judged, reason=why(judged.reason, since))
        if load > self._cores:
            return replace(judged, reason=f"{judged.reason}; other load: {load:.1f} processes want {self._cores} cores")
        return replace(judged, reason=why(judged.reason, ())) if known else judged

    def _static(self, spec: Spec, found: Change, reason: str) -> Verdict:
        """What static figures say of a kernel that is not timed."""
        figures = self._figures(spec, found)
        if figures.beyond and found.respecified:  # other work is asked of it now
            verdict, message = "unmeasurable", f"{reason}; the spec changed since {self.revision}, and with it perhaps: {figures.cause}"
        elif figures.beyond:
            old, new = self._old_side(found), self._new_side(found)
            assert old is not None  # there is one to compare with
            message = messages.grown(spec.name, figures.beyond, old=old, new=new, reason=reason)
            verdict = "grown"
        elif figures.figures:
            verdict, message = (
                "same",
                f"{len(figures.figures)} static figures within their allowance ({figures.cause}); not timed: {reason}",
            )
        else:
            verdict, message = "unmeasurable", f"{reason}; {figures.cause}"
        return self._keep(spec, None, replace(self._row(spec, None, found, verdict=verdict, message=message), figures=figures.figures))

    def _figures(self, spec: Spec, found: Change) -> Figured:
        if spec.nodeid not in self._figured:
            run = self._run
            where = {"target": run.target, "workers": run.workers, "cache": run.cache, "jobs": self._cores}
            self._figured[spec.nodeid] = figured(self._compare, spec, found, **where)  # type: ignore[arg-type]
        return self._figured[spec.nodeid]

    # -- the old kernel --------------------------------------------------------------------------------------------

    def _old(self, spec: Spec, found: Change) -> Candidate | Refused:
        """The old kernel, built and right on the property plan; once a spec."""
        if spec.nodeid not in self._olds:
            self._olds[spec.nodeid] = self._prepared(spec, found)
        return self._olds[spec.nodeid]

    def _prepared(self, spec: Spec, found: Change) -> Candidate | Refused:
        assert found.old is not None  # asked for only where there is one
        if spec.kernel is not None:
            built: Candidate | Outcome = self._imported(spec, spec.kernel)
        else:
            built = self._run.build(replace(spec, name=found.old.entry), found.old.source, found.old.language)
        if isinstance(built, Outcome):
            return self._refused(found, built, "does not build")
        plan = self._run.plan(spec, built.language, self._run.seed, huge=False)
        outcome = self._run.check(spec, built, plan)
        return built if outcome.passed else self._refused(found, outcome, "is wrong")

    def _imported(self, spec: Spec, name: str) -> Candidate | Outcome:
        """The old callable, from a copy of the revision's tree; one copy a run."""
        try:
            self._tree = self._tree or export(self.revision, self._run.workers.folder() / "revision")
        except (OSError, subprocess.SubprocessError) as error:
            return Outcome(status=Status.NOT_MEASURED, stage=Stage.LOAD, message=f"git archive {self.revision.short} failed: {error}")
        return Candidate(name=f"{name} at {self.revision.short}", language=LANGUAGE, entry=spec.name, callable=name, moved=self._tree)

    def _right_here(self, spec: Spec, case: Case, old: Candidate, found: Change) -> Candidate | Refused:
        """The old kernel, right at the case's own size too."""
        outcome = self._run.check(spec, old, of_draws(spec, [Draw(values=case.values, seed=self._run.seed)]))
        return old if outcome.passed else self._refused(found, outcome, "is wrong")

    def _refused(self, found: Change, outcome: Outcome, what: str) -> Refused:
        said = outcome.message.splitlines()[0] if outcome.message else outcome.status.value
        if outcome.status is Status.NOT_MEASURED or (found.new.language == LANGUAGE and outcome.stage is Stage.LOAD):
            return Refused(verdict="unmeasurable", reason=f"the old kernel cannot be judged here: {said}")
        if found.respecified:
            return Refused(
                verdict="unmeasurable", reason=f"the spec changed since {self.revision}, and by it the old kernel {what}: {said}"
            )
        return Refused(verdict="new", reason=f"new: the kernel at {self.revision} {what}: {said}")

    # -- rows ------------------------------------------------------------------------------------------------------

    def _say(self, spec: Spec, case: Case | None, found: Change, *, verdict: str, message: str) -> Verdict:
        return self._keep(spec, case, self._row(spec, case, found, verdict=verdict, message=message))

    def _keep(self, spec: Spec, case: Case | None, row: Verdict) -> Verdict:
        self._run.verdicts[spec.nodeid, case.id if case else ""] = row
        return row

    def _row(self, spec: Spec, case: Case | None, found: Change, *, verdict: str, message: str) -> Verdict:
        return Verdict(
            spec=spec.name,
            case=case.id if case else "",
            target=self._run.target.name,
            language=found.new.language,
            verdict=verdict,
            message=message,
            old=self._old_side(found),
            new=self._new_side(found),
            extra={"test": f"{spec.nodeid}[{case.id if case else 'properties'}]"},
        )

    def _old_side(self, found: Change) -> Side | None:
        if found.old is None:
            return None
        address = _sha256(found.old.source)
        self._run.old_texts[address] = found.old.source
        return Side(path=str(found.old.path), hash=address, revision=self.revision.commit)

    def _new_side(self, found: Change) -> Side:
        return Side(path=str(self._run.settings.relative(found.new.path)), hash=_sha256(found.new.source))


def removed_rows(revision: Revision, target: str, languages: Sequence[Language], rootdir: Path) -> list[Verdict]:
    """A row for every kernel of ``target`` below ``rootdir`` that is gone; one that was renamed is not."""
    renamed = set(revision.renames.values())
    return [
        Verdict(
            spec=path.parent.name,
            case="",
            target=target,
            language=None,
            verdict="removed",
            message=f"{path} was there at {revision}",
            old=Side(path=str(path), hash=_sha256(revision.text(path) or ""), revision=revision.commit),
        )
        for path in removed(revision, target, languages)
        if path not in renamed and (revision.root / path).is_relative_to(rootdir.resolve())
    ]


def all_languages(target: str) -> tuple[Language, ...]:
    """The languages of a target, whatever a spec prefers."""
    return tuple(registry.load("languages", name) for name in registry.load("targets", target).languages)


def _name(spec: Spec, case: Case) -> str:
    return f"{spec.name}[{case.id}]"


def _sha256(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
