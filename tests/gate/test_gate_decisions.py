"""Which verdict follows from what a session finds, without a worker: builds, checks, times and static figures are told."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve import registry
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.disturbance import Reading
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.statistics import Interval
from kevolve.gate import gate as gate_module
from kevolve.gate.gate import Gate, removed_rows
from kevolve.gate.paired import Untimed
from kevolve.gate.revision import resolve
from kevolve.gate.verdict import Finding, Judgement, Look, Rules
from kevolve.report.record import Figure, Verdict
from kevolve.search.accept import find_kernel
from kevolve.settings import Settings
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec
from tests.gate.gitted import KERNEL, SPEC, commit, git, write
from tests.plain_kernel import NORMALISE

CPP = registry.load("languages", "cpp")
CASE = Case(id="64-128", values={"rows": 64, "cols": 128})
CHANGED = NORMALISE.replace("double sum = 0", "double sum = 0.0")
SAID = {"a wrong one": Status.INCORRECT_NUMERICAL, "no build": Status.COMPILE_ERROR}
REGISTERS = Figure(name="registers", where="sm90", old=32, new=64, allowed=35)


@dataclass
class FakeRun:
    """What a gate needs of a run. A source that says one of ``SAID`` is so."""

    settings: Settings
    missing: str | None = None
    shares_cores: bool = True
    lock: Path | None = None
    seed: int = 3
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    old_texts: dict[str, str] = field(default_factory=dict)
    figures: Any = field(default_factory=lambda: SimpleNamespace(scatter=None))
    workers: Any = None

    @property
    def cache(self) -> Path:
        return self.settings.rootdir

    @property
    def target(self) -> Any:
        return SimpleNamespace(
            name="cpu",
            languages=("cpp",),
            missing=lambda: self.missing,
            unmeasured=lambda language: None,
            device=lambda: {"arch": "x"},
            shares_cores=self.shares_cores,
            lock_path=lambda: self.lock,
        )

    def languages(self, spec: Spec) -> tuple[Any, ...]:
        return (CPP,)

    def file(self, spec: Spec) -> Any:
        return find_kernel(spec, "cpu", "x", (CPP,))

    def kernel(self, spec: Spec) -> Any:
        return SimpleNamespace(candidate=self.build(spec, self.file(spec).source, "cpp"))

    def build(self, spec: Spec, source: str, language: str) -> Candidate | Outcome:
        if "no build" in source:
            return Outcome(status=SAID["no build"], stage=Stage.COMPILE, message="error: no build\nmore")
        return Candidate(name=spec.name, language=language, entry=spec.name, source=source)

    def check(self, spec: Spec, candidate: Candidate, plan: Any) -> Outcome:
        wrong = "a wrong one" in (candidate.source or "")
        return Outcome(status=SAID["a wrong one"] if wrong else Status.PASSED, stage=Stage.PROPERTIES, message="differs" if wrong else "")

    def plan(self, spec: Spec, language: str, seed: int, *, huge: bool = True) -> Any:
        assert not huge
        return None


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    write(tmp_path, "test_spec.py", SPEC)
    write(tmp_path, KERNEL, NORMALISE)
    commit(tmp_path, "first")
    return tmp_path


def spec_in(folder: Path) -> Spec:
    return Spec(
        name="normalise",
        nodeid="test_spec.py::test_normalise",
        folder=folder,
        describe=lambda rows, cols: (),
        reference=Reference(module="test_spec", qualname="normalise", file=folder / "test_spec.py", inputs=("x", "weight")),
        cases=(CASE,),
        vary={},
        choices={},
        hash="",
    )


class Figures:
    """Static figures as they are told."""

    def __init__(self, *figures: Figure) -> None:
        self.figures = figures

    def compare(self, spec: Spec, language: Any, old: str, new: str, **_: Any) -> tuple[Figure, ...]:
        assert (language.name, old, new) == ("cpp", NORMALISE, CHANGED)
        return self.figures

    def fails(self, figures: Any) -> tuple[Figure, ...]:
        return tuple(figure for figure in figures if figure.new > figure.allowed)


def gate_of(run: FakeRun, compare: Any = None, load: float = 0.0, readings: Sequence[Reading] = ()) -> Gate:
    given = iter(readings)
    reading = (lambda: next(given)) if readings else None
    return Gate(run, resolve(run.settings.rootdir, "main"), Rules(), compare=compare, load=lambda: load, cores=2, reading=reading)


def timed_as(monkeypatch: pytest.MonkeyPatch, finding: Finding, ratio: Interval, *, forms: Mapping[str, float] | None = None) -> list[Any]:
    """Every comparison says so; what was compared is in the list."""
    asked: list[Any] = []
    times = forms or {"launched": 12.0}
    look = Look(ratios=dict.fromkeys(times, ratio), old_us=times, new_us=times, pairs=7)

    def made(**fields: Any) -> Any:
        asked.append(fields)
        return SimpleNamespace(judge=lambda rules, seed: Judgement(finding=finding, look=look, form=next(iter(times)), reason="noise"))

    monkeypatch.setattr(gate_module, "Comparison", made)
    monkeypatch.setattr(gate_module, "timed_pool", lambda *_, **__: contextlib.nullcontext())
    return asked


@pytest.fixture
def run(repository: Path) -> FakeRun:
    return FakeRun(Settings(rootdir=repository))


def judged(run: FakeRun, **options: Any) -> Verdict:
    """The verdict of the one case, right as it is."""
    found = gate_of(run, **options).case(spec_in(run.settings.rootdir), CASE, Status.PASSED, "")
    assert found is not None
    return found


SLOW = Interval(estimate=0.9, low=0.88, high=0.92)


def test_a_slower_kernel_s_row_has_both_sides_the_ratio_and_the_figures_that_moved(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    asked = timed_as(monkeypatch, Finding.SLOWER, SLOW, forms={"replayed": 9.0, "launched": 12.0})
    found = judged(run, compare=Figures(REGISTERS))
    assert (found.verdict, found.failed, found.figures) == ("slower", True, (REGISTERS,))
    assert "cause    registers 32 -> 64 (sm90)" in found.message
    assert found.ratio is not None
    assert found.old is not None
    assert (found.ratio.estimate, found.old.time_us, found.old.extra["form_us"]) == (0.9, 12.0, 9.0)
    assert (asked[0]["old"].source, asked[0]["new"].source) == (NORMALISE, CHANGED)
    assert run.verdicts == {("test_spec.py::test_normalise", "64-128"): found}
    assert run.old_texts == {found.old.hash: NORMALISE}


def test_without_static_figures_the_cause_says_so(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    timed_as(monkeypatch, Finding.SLOWER, SLOW)
    assert "cause    static figures are not available" in judged(run).message


def test_noise_is_unmeasurable_and_names_other_load_where_there_is_some(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    timed_as(monkeypatch, Finding.UNCLEAR, SLOW)
    assert judged(run).message.endswith("; noise")
    busy = judged(run, load=5.04)
    assert (busy.verdict, busy.failed) == ("unmeasurable", False)
    assert busy.message.endswith("noise; other load: 5.0 processes want 2 cores")


def test_noise_is_laid_to_what_the_machine_s_counters_say_and_to_nothing_else(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    timed_as(monkeypatch, Finding.UNCLEAR, SLOW)
    calm, hot = Reading(at=0.0, hot=1), Reading(at=9.0, hot=4)
    assert judged(run, load=5.0, readings=[calm, hot]).message.endswith(
        "noise; throttling: the processor held its clock down for its heat 3 times"
    )
    assert judged(run, readings=[calm, replace(calm, at=9.0)]).message.endswith("noise; no other load and no throttling was seen")


def test_what_cannot_be_timed_is_unmeasurable_with_the_reason(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)

    def refuse(**_: Any) -> Any:
        raise Untimed("the old kernel failed while it was timed: crashed")

    timed_as(monkeypatch, Finding.SAME, SLOW)
    monkeypatch.setattr(gate_module, "Comparison", refuse)
    assert (judged(run).verdict, judged(run).message) == (
        "unmeasurable",
        "normalise[64-128]: the old kernel failed while it was timed: crashed",
    )


@pytest.mark.parametrize(("mark", "what"), [("a wrong one", "is wrong: differs"), ("no build", "does not build: error: no build")])
@pytest.mark.parametrize("respecified", [False, True])
def test_an_old_kernel_that_is_none_makes_the_new_one_new_or_unmeasurable_where_the_spec_changed(
    run: FakeRun, mark: str, what: str, respecified: bool
) -> None:
    folder = run.settings.rootdir
    write(folder, KERNEL, f"{NORMALISE}\n// {mark}\n")
    commit(folder, "then")
    write(folder, KERNEL, CHANGED)
    if respecified:
        write(folder, "test_spec.py", SPEC.replace("EPS = 1e-6", "EPS = 1e-5"))
    found = judged(run)
    assert found.verdict == ("unmeasurable" if respecified else "new")
    assert found.message.endswith(what)
    assert ("the spec changed since " in found.message) is respecified


def test_a_callable_that_the_copy_of_the_revision_cannot_import_is_unmeasurable(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension that was built in place is in no commit."""
    folder = run.settings.rootdir
    monkeypatch.syspath_prepend(folder)
    write(folder, "own_kernels.py", "import built\n")
    commit(folder, "then")
    write(folder, "own_kernels.py", "import built, sys\n")
    run.workers = SimpleNamespace(folder=lambda: write(folder, "scratch/.keep", "").parent)
    failed = Outcome(status=Status.RUNTIME_ERROR, stage=Stage.LOAD, message="ModuleNotFoundError: No module named 'built'\n…")
    asked: list[Candidate] = []
    monkeypatch.setattr(run, "check", lambda spec, candidate, plan: asked.append(candidate) or failed, raising=False)
    spec = replace(spec_in(folder), kernel="own_kernels:normalise")
    found = gate_of(run).case(spec, CASE, Status.PASSED, "")
    assert found is not None
    assert (found.verdict, found.message) == (
        "unmeasurable",
        "the old kernel cannot be judged here: ModuleNotFoundError: No module named 'built'",
    )
    assert (asked[0].moved.root / "own_kernels.py").read_text() == "import built\n"  # type: ignore[union-attr]


def test_a_wrong_kernel_is_wrong_and_never_timed(run: FakeRun) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    gate, spec = gate_of(run), spec_in(run.settings.rootdir)
    found = gate.case(spec, CASE, Status.INCORRECT_NUMERICAL, "1 of 4 differ")
    whole = gate.properties(spec, Status.RUNTIME_ERROR, "it crashed")
    assert found is not None
    assert whole is not None
    assert (found.verdict, whole.verdict, whole.case) == ("wrong", "wrong", "")
    assert found.message.startswith("normalise[64-128] is wrong; kernels/normalise/cpu.cpp changed since ")
    assert found.message.endswith(":\n1 of 4 differ")


def test_unchanged_kernels_are_idle_unless_their_spec_changed(run: FakeRun) -> None:
    folder = run.settings.rootdir
    assert str(gate_of(run).idle(spec_in(folder))).startswith("unchanged since ")
    assert run.verdicts == {}
    write(folder, KERNEL, "// another header\n" + NORMALISE)
    assert str(gate_of(run).idle(spec_in(folder))).startswith("same: only comments and layout changed since ")
    assert [row.verdict for row in run.verdicts.values()] == ["same"]
    write(folder, "test_spec.py", SPEC.replace("EPS = 1e-6", "EPS = 1e-5"))
    assert gate_of(run).idle(spec_in(folder)) is None
    assert gate_of(run).case(spec_in(folder), CASE, Status.PASSED, "") is None


def test_new_and_first_kernels_have_one_row_each(run: FakeRun) -> None:
    folder = run.settings.rootdir
    git(folder, "mv", str(KERNEL), str(KERNEL.parent.parent / "other.cpp"))
    commit(folder, "no kernel")
    write(folder, KERNEL, CHANGED)
    gate, spec = gate_of(run), spec_in(folder)
    for verdict in (gate.case(spec, CASE, Status.PASSED, ""), gate.properties(spec, Status.PASSED, "")):
        assert verdict is not None
        assert verdict.verdict == "baseline"
    assert [(row.case, row.verdict) for row in run.verdicts.values()] == [("", "baseline")]
    write(folder, KERNEL.parent.parent / "other" / "cpu.cpp", NORMALISE)
    commit(folder, "another's")
    git(folder, "rm", "-q", "--cached", str(KERNEL))
    git(folder, "commit", "-q", "-m", "without it")
    assert judged(run).verdict == "new"


def test_removed_kernels_are_listed_and_the_tests_that_miss_them_say_where_they_are(run: FakeRun) -> None:
    folder = run.settings.rootdir
    (folder / KERNEL).unlink()
    gate = gate_of(run)
    (row,) = removed_rows(gate.revision, "cpu", (CPP,), folder)
    assert (row.spec, row.verdict, row.old and row.old.path) == ("normalise", "removed", str(KERNEL))
    assert gate.change(spec_in(folder)) is None
    assert gate.hint(spec_in(folder)).endswith(f"git checkout {gate.revision.short} -- {KERNEL}")


@pytest.mark.parametrize(
    ("compare", "verdict", "said"),
    [
        (Figures(REGISTERS), "grown", "registers 32 -> 64 (sm90), at most 35"),
        (
            Figures(replace(REGISTERS, new=33)),
            "same",
            "1 static figures within their allowance (registers 32 -> 33 (sm90)); not timed: no device",
        ),
        (Figures(), "unmeasurable", "static figures are not available"),
        (Figures(replace(REGISTERS, name="compiles", old=0, new=0)), "unmeasurable", "not available: neither text compiles or runs"),
        (None, "unmeasurable", "no device: target cpu: none here; static figures are not available"),
    ],
)
def test_without_a_device_static_figures_decide_for_the_whole_kernel(run: FakeRun, compare: Any, verdict: str, said: str) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    run.missing = "none here"
    found = gate_of(run, compare).properties(spec_in(run.settings.rootdir), Status.NOT_MEASURED, "")
    assert found is not None
    assert (found.verdict, found.case) == (verdict, "")
    assert said in found.message


def test_figures_that_grew_with_the_spec_fail_nothing(run: FakeRun) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    write(run.settings.rootdir, "test_spec.py", SPEC.replace("EPS = 1e-6", "EPS = 1e-5"))
    run.missing = "none here"
    found = gate_of(run, Figures(REGISTERS)).properties(spec_in(run.settings.rootdir), Status.NOT_MEASURED, "")
    assert found is not None
    assert found.verdict == "unmeasurable"
    assert "the spec changed since " in found.message
    assert found.figures == (REGISTERS,)


@pytest.mark.parametrize(("lock", "verdict"), [(None, "unmeasurable"), (Path("lock"), "same")])
def test_beside_other_workers_only_a_device_that_they_take_in_turn_is_timed_and_as_replayed(
    run: FakeRun, monkeypatch: pytest.MonkeyPatch, lock: Path | None, verdict: str
) -> None:
    write(run.settings.rootdir, KERNEL, CHANGED)
    run.settings, run.shares_cores, run.lock = replace(run.settings, untimed="xdist workers share the cores"), False, lock
    asked = timed_as(monkeypatch, Finding.SAME, SLOW)
    assert judged(run).verdict == verdict
    assert [fields["launched"] for fields in asked] == ([] if lock is None else [False])
