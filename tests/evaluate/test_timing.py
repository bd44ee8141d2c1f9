from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve import registry
from kevolve.evaluate import contents, timing
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Workers
from kevolve.evaluate.outcome import Stage, Status
from kevolve.evaluate.timing import Measurement
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec
from kevolve.targets import Peaks

KERNELS = '''
import os, sys, torch

torch.set_num_threads(1)  # tests run beside each other

def reference(x):
    return torch.softmax(x, -1)

def refuses_the_compiler(x):
    if "torch._inductor.compile_fx" in sys.modules:
        raise RuntimeError("not this way")
    return torch.softmax(x, -1)

def equal(x):
    return torch.softmax(x, -1)

def looks_up(x, table):
    return torch.softmax(x, -1) + table[0, 0]

def slow(x):
    for _ in range(4):
        made = torch.softmax(x, -1)
    return made

calls = 0

def remembers(x):
    """Right at first, then the first answer for ever: content is a matter of memory."""
    global calls, answer
    calls += 1
    if calls <= 20:
        answer = torch.softmax(x, -1)
    return answer.clone()

seen, last = set(), None

def meets_nothing_twice(x):
    """Fails on contents of an earlier call (only the judge's own clock is given the same inputs again and again)."""
    global last
    key = tuple(x[0, :4].tolist())
    if key in seen and key != last:
        raise RuntimeError("seen before")
    seen.add(key)
    last = key
    return torch.softmax(x, -1)

def crashes(x):
    global calls
    calls += 1
    if calls > 20:
        os.kill(os.getpid(), 11)
    return torch.softmax(x, -1)

def lies(x):
    """Puts a clock of its own in place of the target's."""
    from kevolve.targets import BlockTimes
    from kevolve.targets.cpu import CPU
    honest = CPU.time_block
    if not hasattr(CPU, "lied"):
        CPU.lied = True
        def time_block(self, call, inputs):
            times, outputs = honest(self, call, inputs)
            return BlockTimes(launched_us=tuple(t / 50 for t in times.launched_us)), outputs
        CPU.time_block = time_block
    return torch.softmax(x, -1)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("timing")
    (made / "timed_kernels.py").write_text(textwrap.dedent(KERNELS))
    return made


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[Workers]:
    with Workers(sys_path=[str(folder)], scratch=folder / "scratch") as made:
        yield made


def _spec(folder: Path, reference: str = "reference", **more: Any) -> Spec:
    return Spec(
        name="softmax",
        nodeid="t.py::test_softmax",
        folder=folder,
        describe=lambda rows: (Tensor(rows, 512),),
        reference=Reference(module="timed_kernels", qualname=reference, file=folder / "timed_kernels.py", inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash=reference,
        **more,
    )


CASE = Case(id="40", values={"rows": 40})


def _measure(workers: Workers, spec: Spec, kernel: str, *, case: Case = CASE, **more: Any) -> Measurement:
    candidate = Candidate(name=kernel, language="cpp", entry=kernel, callable=f"timed_kernels:{kernel}")
    settings: dict[str, Any] = {"baselines": ("eager",), "seed": 5, "pairs": 3, "budget_s": 0.1} | more
    return timing.measure(workers, spec, case, candidate, target=registry.load("targets", "cpu"), **settings)


def made(sizes: Mapping[str, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    """Inputs of a function."""
    return (torch.randn(sizes["rows"], 512, generator=generator),)


@pytest.mark.parametrize("describe", [lambda rows: (Tensor(rows, 512),), lambda rows: made], ids=["described", "made by a function"])
def test_no_process_meets_the_same_contents_twice(workers: Workers, folder: Path, describe: Callable[..., Any]) -> None:
    spec = replace(_spec(folder, min_speedup=0.001), describe=describe)
    found = _measure(workers, spec, "meets_nothing_twice")
    assert found.outcome.status is Status.PASSED, found.outcome.message
    contents = "2048 input sets, none twice in a process" if describe(40) is made else "contents never seen before"
    assert contents in found.method


def test_equal_kernels_pass_and_every_figure_of_the_record_is_there(workers: Workers, folder: Path) -> None:
    peaks = Peaks(bandwidth=((1e3, 1e12),), random_accesses=((1e3, 1e9),), empty_call_us=0.1)
    found = _measure(workers, _spec(folder, min_speedup=0.01), "equal", peaks=peaks)
    assert found.outcome.status is Status.PASSED, found.outcome.message
    assert found.pairs == 3
    assert found.verified >= 1
    assert found.time_us["replayed"] is None
    assert found.time_us["launched"] is not None
    assert found.baseline_us["eager"]["launched"] is not None
    assert 0.2 < found.speedup["eager"].estimate < 5
    assert found.floor_us == pytest.approx(2 * 40 * 512 * 4 / 1e12 * 1e6)
    assert found.speed_of_light == pytest.approx(found.floor_us / found.time_us["launched"])
    assert len(found.samples_s) >= 6
    assert found.method.startswith("3 process pairs x ")


def test_a_kernel_that_takes_four_times_as_long_is_too_slow(workers: Workers, folder: Path) -> None:
    found = _measure(workers, _spec(folder, min_speedup=100.0), "slow", pairs=4)
    assert found.outcome.status is Status.TOO_SLOW
    assert found.speedup["eager"].estimate < 0.7
    first, second = found.outcome.message.split("; twice: ")
    assert first.endswith("expected at least 100x")
    assert second.endswith("in the processes before")
    assert found.outcome.detail["first_look"]["high"] < 100
    assert found.method.endswith("the second of two looks, in fresh processes")


def test_a_kernel_that_remembers_an_answer_is_incorrect_on_contents_it_has_not_seen(workers: Workers, folder: Path) -> None:
    found = _measure(workers, _spec(folder, min_speedup=0.01), "remembers")
    assert found.outcome.status is Status.INCORRECT_NUMERICAL
    assert found.outcome.stage is Stage.PAIRED
    assert "on contents it had not seen before" in found.outcome.message


def test_a_kernel_that_crashes_while_it_is_timed_is_a_typed_outcome(workers: Workers, folder: Path) -> None:
    found = _measure(workers, _spec(folder), "crashes")
    assert found.outcome.status is Status.RUNTIME_ERROR
    assert "SIGSEGV" in found.outcome.message


def test_a_clock_that_lies_is_caught_by_the_judges_own(workers: Workers, folder: Path) -> None:
    case = Case(id="800", values={"rows": 800})  # so long that what it hides is more than a host may add to a call
    found = _measure(workers, _spec(folder, min_speedup=0.01), "lies", case=case)
    assert found.outcome.status is Status.REWARD_HACK
    assert "by the judge's clock, in every pair" in found.outcome.message


def test_contents_that_take_long_to_make_are_not_held_against_a_quick_kernel(
    workers: Workers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Reference(module="timed_kernels", qualname="looks_up", file=folder / "timed_kernels.py", inputs=("x", "table"))

    def index(sizes: Mapping[str, int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return (*made(sizes, generator), torch.rand(1, generator=generator).expand(1 << 12, 1 << 10).clone())

    spec = replace(_spec(folder, min_speedup=0.01), describe=lambda rows: index, reference=reference)
    monkeypatch.setattr(contents, "_BANK_BYTES", 128 << 20)
    found = _measure(workers, spec, "looks_up", budget_s=0.001)
    assert found.outcome.status is Status.PASSED, found.outcome.message


def test_what_beats_the_speed_of_light_is_suspect(workers: Workers, folder: Path) -> None:
    peaks = Peaks(bandwidth=((1e3, 1e3),), random_accesses=((1e3, 1e9),), empty_call_us=0.1)
    found = _measure(workers, _spec(folder, min_speedup=0.01), "equal", peaks=peaks)
    assert found.outcome.status is Status.SUSPECT


def test_a_baseline_that_cannot_be_compiled_is_recorded_with_its_reason(workers: Workers, folder: Path) -> None:
    spec = _spec(folder, "refuses_the_compiler", min_speedup=0.01)
    found = _measure(workers, spec, "equal", baselines=("eager", "compile"))
    assert found.outcome.status is Status.PASSED, found.outcome.message
    assert list(found.speedup) == ["eager"]
    assert "not this way" in found.unavailable["compile"]


def test_without_any_baseline_nothing_is_measured_and_nothing_passes(workers: Workers, folder: Path) -> None:
    found = _measure(workers, _spec(folder, "refuses_the_compiler"), "equal", baselines=("compile",))
    assert found.outcome.status is Status.NOT_MEASURED


def test_quick_gives_a_fitness_and_turns_failures_into_outcomes(workers: Workers, folder: Path) -> None:
    target = registry.load("targets", "cpu")
    kernels = {name: Candidate(name=name, language="cpp", entry=name, callable=f"timed_kernels:{name}") for name in ("slow", "crashes")}
    slow = timing.quick(workers, _spec(folder), CASE, kernels["slow"], target=target, seed=1)
    assert slow.outcome.passed
    assert 0.02 < slow.fitness < 0.7
    crashed = timing.quick(workers, _spec(folder), CASE, kernels["crashes"], target=target, seed=1)
    assert crashed.outcome.status is Status.RUNTIME_ERROR
    assert crashed.fitness == 0.0


def test_quick_times_against_the_specs_first_baseline(workers: Workers, folder: Path) -> None:
    candidate = Candidate(name="equal", language="cpp", entry="equal", callable="timed_kernels:equal")
    spec = _spec(folder, "refuses_the_compiler", baseline=("compile", "eager"))
    found = timing.quick(workers, spec, CASE, candidate, target=registry.load("targets", "cpu"), seed=1)
    assert found.outcome.status is Status.NOT_MEASURED
    assert found.outcome.message.startswith("compile: ")
    assert "not this way" in found.outcome.message


def test_an_interpreted_language_is_not_measured_with_the_targets_reason(workers: Workers, folder: Path) -> None:
    candidate = Candidate(name="t", language="triton", entry="t", callable="timed_kernels:equal")
    found = timing.measure(workers, _spec(folder), CASE, candidate, target=registry.load("targets", "cpu"), baselines=("eager",), seed=1)
    assert found.outcome.status is Status.NOT_MEASURED
    assert found.outcome.message == "Triton kernels run interpreted on a cpu: checked, not timed"


def test_an_unknown_baseline_is_an_error_that_lists_the_known_ones(workers: Workers, folder: Path) -> None:
    with pytest.raises(ValueError, match="expected one of eager, compile, got numpy"):
        _measure(workers, _spec(folder), "equal", baselines=("numpy",))


def test_inputs_that_cannot_be_made_are_the_specs_fault_and_a_typed_outcome(workers: Workers, folder: Path) -> None:
    spec = replace(_spec(folder), describe=lambda rows: (Tensor(rows, dtype="int64", low=0, high=2, unique=True),))
    found = _measure(workers, spec, "equal").outcome
    candidate = Candidate(name="equal", language="cpp", entry="equal", callable="timed_kernels:equal")
    rough = timing.quick(workers, spec, CASE, candidate, target=registry.load("targets", "cpu"), seed=5).outcome
    for outcome, stage in ((found, Stage.PAIRED), (rough, Stage.QUICK)):
        assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, stage)
        assert outcome.detail["reference"] is True
        assert "this is the spec's fault, not the candidate's" in outcome.message
