"""Timing and judging where a target has a device of its own, on a target that plays one."""

from __future__ import annotations

import itertools
import shutil
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attached import CROWDED, Attached

from kevolve.evaluate import baselines, client, timing
from kevolve.evaluate import scatter as scatter_module
from kevolve.evaluate.baselines import Templates
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Child, ChildFailed, Workers
from kevolve.evaluate.device_figures import DeviceFigures
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import of_draws
from kevolve.evaluate.scatter import Scatter, scatter
from kevolve.run import Run
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets.cpu import CPU

KERNELS = """
import torch

torch.set_num_threads(1)  # tests run beside each other

def reference(x):
    return torch.softmax(x, -1)

def equal(x):
    return torch.softmax(x, -1)

def by_rows(x, lengths):
    return x.sum(-1) + lengths

calls = 0

def remembers(x):
    global calls, answer
    calls += 1
    if calls <= 30:
        answer = torch.softmax(x, -1)
    return answer.clone()

def one_off(x):
    made = torch.softmax(x, -1)
    if made.numel() > 1:
        made.view(-1)[-1] += 1e-2
    return made

def overwrites(x):
    made = torch.softmax(x, -1)
    x.view(-1)[0] = 7.0
    return made

def beyond(x):
    made = torch.softmax(x, -1)
    x.as_strided((1,), (1,), x.storage_offset() + x.numel()).fill_(3.0)
    return made

def fails(x):
    raise RuntimeError("xyzzy")

def raises_at_37(x):
    if x.shape[0] == 37:
        raise RuntimeError("not this one")
    return torch.softmax(x, -1)

def reshapes_at_37(x):
    made = torch.softmax(x, -1)
    return made if x.shape[0] != 37 else 3

def gives_one_buffer(x):
    global buffer
    if calls == 0 or buffer.shape != x.shape:
        buffer = torch.empty_like(x)
    count()
    return buffer.copy_(torch.softmax(x, -1))

def count():
    global calls
    calls += 1

def whole(n):
    return n * 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels, and the target as pip would leave it."""
    made = tmp_path_factory.mktemp("attached")
    (made / "attached_kernels.py").write_text(textwrap.dedent(KERNELS))
    shutil.copy(Path(__file__).with_name("attached.py"), made)
    info = made / "attached-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attached\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kevolve.targets]\nattached = attached:Attached\n")
    return made


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[Workers]:
    with Workers(sys_path=[str(folder)], scratch=folder / "scratch") as made:
        yield made


def _spec(folder: Path, reference: str = "reference", dtype: str = "float32", **more: Any) -> Spec:
    return Spec(
        name="softmax",
        nodeid="t.py::test_softmax",
        folder=folder,
        describe=lambda rows: (Tensor(rows, 256, dtype=dtype, **({"low": 0, "high": 9} if dtype == "int64" else {})),),
        reference=Reference(module="attached_kernels", qualname=reference, file=folder / "attached_kernels.py", inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash=reference,
        min_speedup=0.01,
        **more,
    )


def _candidate(kernel: str) -> Candidate:
    return Candidate(name=kernel, language="python", entry=kernel, callable=f"attached_kernels:{kernel}")


CASE = Case(id="40", values={"rows": 40})


def _measure(workers: Workers, spec: Spec, kernel: str, **more: Any) -> timing.Measurement:
    settings: dict[str, Any] = {"baselines": ("eager",), "seed": 5, "pairs": 4} | more
    return timing.measure(workers, spec, CASE, _candidate(kernel), target=Attached(), **settings)


def _check(workers: Workers, folder: Path, kernel: str, rows: int = 40) -> Any:
    plan = of_draws(_spec(folder), [Draw(values={"rows": rows}, seed=3)])
    return check(workers, _spec(folder), _candidate(kernel), plan, target=Attached(), deadline_s=30)


def test_the_scatter_between_processes_is_measured_once_a_device(workers: Workers, tmp_path: Path) -> None:
    found = scatter(workers, Attached(), tmp_path, clock=time.perf_counter)
    assert found is not None
    assert found.processes == 16
    assert 0 < found.launched_us < 1e6
    again = scatter(workers, Attached(), tmp_path, clock=lambda: pytest.fail("measured again"))
    assert again == found
    assert scatter(workers, CPU(), tmp_path, clock=time.perf_counter) is None  # every pair has processes of its own


def test_an_interval_over_few_processes_says_so(workers: Workers, folder: Path) -> None:
    between = Scatter(launched_us=200.0, replayed_us=200.0, processes=16)
    wider = _measure(workers, _spec(folder), "equal", scatter=between)
    assert wider.speedup["eager"].low < 0.01 < 100 < wider.speedup["eager"].high
    assert "and over the scatter between 16 processes (2e+02 us launched, 2e+02 us replayed)" in wider.method


def test_calls_are_timed_launched_and_replayed_and_answers_of_both_are_verified(workers: Workers, folder: Path) -> None:
    found = _measure(workers, _spec(folder), "equal")
    assert found.outcome.status is Status.PASSED, found.outcome.message
    assert found.pairs == 4
    assert found.verified == 2
    assert found.time_us["replayed"] is not None
    assert found.baseline_us["eager"]["replayed"] is not None
    assert "4 pairs (2 processes of the candidate, other buffers in every pair)" in found.method
    assert "graphs of 4 calls, 4 input sets in turn" in found.method


def test_the_references_processes_serve_one_candidate_after_another(workers: Workers, folder: Path) -> None:
    _measure(workers, _spec(folder), "equal")
    before = {key: child.pid for key, child in workers._kept.items()}
    timing.quick(workers, _spec(folder), CASE, _candidate("equal"), target=Attached(), seed=1)
    assert {key: child.pid for key, child in workers._kept.items()} == before


def test_a_reference_that_served_many_gets_others_beside_it_and_before_that_it_is_waited_for(workers: Workers, folder: Path) -> None:
    spec = _spec(folder)
    with closing(timing.timed_pool(spec, CASE, seed=1)) as pool, Templates(workers) as templates:
        given: dict[str, Any] = {"target": Attached(), "baselines": ("eager",), "pool": pool, "templates": templates}
        eager = baselines.openers(workers, spec, CASE, _candidate("equal"), **given)["eager"]

        def used() -> None:
            with eager():
                pass

        with eager() as first:
            first.served = 1
            waiting = threading.Thread(target=used)
            waiting.start()
            waiting.join(0.5)
            assert waiting.is_alive(), "another process was made for one that had served few"
        waiting.join(10)
        assert (waiting.is_alive(), first.served) == (False, 2)
        first.served = 100
        with eager() as first, eager() as second:
            second.served = 100
            with eager() as third:
                assert len({first.pid, second.pid, third.pid}) == 3
        with eager() as again:
            assert again.pid == first.pid


def test_where_another_process_of_the_reference_cannot_be_made_the_first_is_waited_for() -> None:
    class Lone:
        lent, served, closed = threading.Lock(), 100, False

    def full() -> Any:
        raise ChildFailed(Status.RUNTIME_ERROR, "out of memory")

    lone: Any = Lone()
    with lone.lent:
        waiting = threading.Thread(target=lambda: baselines._acquired(SimpleNamespace(has_room=True), [lambda: lone, full]))  # type: ignore[arg-type]
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(10)
    assert (waiting.is_alive(), lone.served) == (False, 1)


def test_a_process_that_serves_a_measurement_makes_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_KEPT", 1)
    with Workers(sys_path=[str(folder)], scratch=folder / "narrow") as narrow:
        made = [narrow.child(target=Attached(), language="python") for _ in range(3)]
        busy, idle, newest = made
        with busy.lent:
            for number, child in enumerate(made):
                assert narrow.kept((str(number),), lambda child=child: child) is child  # type: ignore[misc]
            assert (busy.closed, idle.closed, newest.closed) == (False, True, False)


def test_a_compiled_reference_is_kept_where_it_cannot_be_forked(workers: Workers, folder: Path) -> None:
    with Templates(workers) as templates:
        found = _measure(workers, _spec(folder), "equal", baselines=("eager", "compile"), templates=templates, pairs=2)
    assert sorted(found.speedup) == ["compile", "eager"], found.unavailable
    assert ("compiler", "attached") in workers._kept
    assert "over others the faster forms (candidate " in found.method


def test_a_kernel_that_remembers_is_incorrect_on_contents_it_has_not_seen(workers: Workers, folder: Path) -> None:
    found = _measure(workers, _spec(folder), "remembers")
    assert found.outcome.status is Status.INCORRECT_NUMERICAL
    assert "on contents it had not seen before" in found.outcome.message


def test_calls_that_cannot_be_captured_are_timed_as_launched_in_another_process(workers: Workers, folder: Path) -> None:
    found = _measure(workers, _spec(folder, "whole", "int64"), "whole")
    assert found.outcome.status is Status.PASSED, found.outcome.message
    assert found.time_us["replayed"] is None
    assert "; candidate integers cannot be captured" in found.method
    assert [*workers.uncaptured.values()][-1] == {"eager": "integers cannot be captured"}


@pytest.mark.parametrize("rows", [3, 40])
def test_large_draws_are_judged_by_the_trusted_process_and_small_ones_here(workers: Workers, folder: Path, rows: int) -> None:
    workers._kept.pop(("referee", "attached"), None)
    assert _check(workers, folder, "equal", rows).passed
    assert (("referee", "attached") in workers._kept) is (rows == 40)
    wrong = _check(workers, folder, "one_off", rows)
    assert wrong.status is Status.INCORRECT_NUMERICAL
    assert f"1 of {rows * 256} differ" in wrong.message


@pytest.mark.parametrize("kernel, what", [("overwrites", "wrote to input 0"), ("beyond", "wrote to beyond the end of input 0")])
def test_what_a_kernel_writes_to_the_devices_copy_of_its_inputs_is_seen(workers: Workers, folder: Path, kernel: str, what: str) -> None:
    found = _check(workers, folder, kernel)
    assert found.status is Status.RUNTIME_ERROR
    assert what in found.message


def test_a_devices_error_is_explained(workers: Workers, folder: Path) -> None:
    assert "RuntimeError: an explained error" in _check(workers, folder, "fails").message


@pytest.mark.parametrize("kernel", ["raises_at_37", "reshapes_at_37"])
def test_of_many_calls_that_are_not_waited_for_the_right_one_is_blamed(workers: Workers, folder: Path, kernel: str) -> None:
    spec = _spec(folder)
    plan = of_draws(spec, [Draw(values={"rows": rows}, seed=rows) for rows in range(1, 91)])
    outcome = check(workers, spec, _candidate(kernel), plan, target=Attached(), deadline_s=30)
    assert outcome.status is Status.RUNTIME_ERROR
    assert outcome.message.startswith(f"{kernel} at rows=37")


def test_a_buffer_given_out_twice_shows_among_calls_that_are_not_waited_for(workers: Workers, folder: Path) -> None:
    spec = _spec(folder)
    plan = of_draws(spec, [Draw(values={"rows": 4}, seed=seed) for seed in range(80)])
    outcome = check(workers, spec, _candidate("gives_one_buffer"), plan, target=Attached(), deadline_s=30)
    assert outcome.status is Status.INCORRECT_NUMERICAL
    assert check(workers, spec, _candidate("equal"), plan, target=Attached(), deadline_s=30).passed


def test_a_rough_time_over_eager_captures_nothing(workers: Workers, folder: Path) -> None:
    spec = replace(_spec(folder), baseline=("eager",))
    seen: list[str] = []
    original = Child.call

    def noted(child: Child, command: str, **arguments: Any) -> Any:
        seen.append(command)
        return original(child, command, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Child, "call", noted)
        found = timing.quick(workers, spec, CASE, _candidate("equal"), target=Attached(), seed=4)
    assert found.outcome.passed
    assert "time_block" in seen
    assert not {"time_graph", "time_replay"} & set(seen)


def _kept_process(workers: Workers, spec: Spec, kernel: str) -> tuple[Any, list[Child]]:
    kept: list[Child] = []
    plan = of_draws(spec, [Draw(values={"rows": 3}, seed=3)])
    outcome = check(workers, spec, _candidate(kernel), plan, target=Attached(), deadline_s=30, keep=kept.append)
    return outcome, kept


def test_the_process_that_checked_a_kernel_times_it_roughly_on_every_case_and_stays_its_owners(workers: Workers, folder: Path) -> None:
    spec = replace(_spec(folder), baseline=("eager",))
    outcome, (process,) = _kept_process(workers, spec, "equal")
    assert outcome.passed
    opened: list[str] = []
    with process, pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "open_candidate", lambda *_, **__: opened.append("another"))
        for case in (CASE, replace(CASE, id="17", values={"rows": 17})):
            found = timing.quick(workers, spec, case, _candidate("equal"), target=Attached(), seed=4, process=process)
            assert found.outcome.passed, found.outcome.message
        assert not process.closed
    assert opened == []


def test_where_the_process_that_checked_a_kernel_cannot_capture_it_another_times_it(workers: Workers, folder: Path) -> None:
    spec = replace(_spec(folder, "whole", "int64"), baseline=("compile",))
    _, (process,) = _kept_process(workers, spec, "whole")
    found = timing.quick(workers, spec, CASE, _candidate("whole"), target=Attached(), seed=4, process=process)
    assert found.outcome.passed, found.outcome.message
    assert process.closed


def test_the_process_of_a_kernel_that_fails_is_not_kept(workers: Workers, folder: Path) -> None:
    outcome, kept = _kept_process(workers, _spec(folder), "one_off")
    assert outcome.status is Status.INCORRECT_NUMERICAL
    assert kept == []


def _commands(workers: Workers, folder: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> set[tuple[str, str]]:
    """Each command that a measurement sends, and how the device is held meanwhile. ``rows``: of a case that no other test has."""
    held, seen = ["nothing"], set()
    original = Child.call

    def noted(child: Child, command: str, **arguments: Any) -> Any:
        seen.add((command, held[-1]))
        return original(child, command, **arguments)

    def holding(name: str) -> Any:
        hold = getattr(workers.holds, name)

        @contextmanager
        def counted(*given: Any) -> Iterator[None]:
            with hold(*given):
                held.append(name)
                yield
                held.pop()

        return counted

    monkeypatch.setattr(Child, "call", noted)
    for name in ("shared", "alone", "interruptible"):
        monkeypatch.setattr(workers.holds, name, holding(name))
    with Templates(workers) as templates:
        timing.measure(
            workers,
            _spec(folder),
            replace(CASE, id=str(rows), values={"rows": rows}),
            _candidate("equal"),
            target=Attached(),
            baselines=("eager", "compile"),
            templates=templates,
            pairs=3,
            seed=1,
        )
    return seen


def test_nothing_is_timed_while_a_context_is_made_or_a_reference_compiled_or_a_process_given_its_contents(
    workers: Workers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _commands(workers, folder, monkeypatch, rows=41)
    timed = {f"time_{part}" for part in ("inputs", "graph", "again", "block", "replay", "next", "bound", "outputs", "rest")}
    on_the_device = {"enter", "warm"} | timed
    assert {(command, holder) for command, holder in seen if command in on_the_device} == {
        ("enter", "shared"),
        ("warm", "interruptible"),
        ("time_inputs", "shared"),
        ("time_graph", "shared"),
        ("time_graph", "alone"),
        ("time_again", "alone"),
        ("time_block", "alone"),
        ("time_replay", "alone"),
        ("time_next", "alone"),
        ("time_bound", "alone"),
        ("time_outputs", "alone"),
    }


def test_a_kept_process_that_holds_much_memory_gives_it_back_when_it_has_been_measured(
    workers: Workers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _commands(workers, folder, monkeypatch, rows=CROWDED // 256 + 1)
    assert {holder for command, holder in seen if command == "time_rest"} == {"shared"}


def test_of_processes_for_the_scatter_none_stays_where_one_fails(workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Child] = []
    numbers, original = itertools.count(), scatter_module.open_candidate

    def failing(*arguments: Any, **named: Any) -> Child:
        if next(numbers) == 1:
            raise ChildFailed(Status.RUNTIME_ERROR, "no room for another context")
        opened.append(original(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(scatter_module, "open_candidate", failing)
    monkeypatch.setattr(scatter_module, "_AT_ONCE", 3)
    monkeypatch.setattr(scatter_module, "_PROCESSES", 3)
    with pytest.raises(ChildFailed, match="no room for another context"):
        scatter(workers, Attached(), tmp_path, clock=time.perf_counter)
    assert [child.closed for child in opened] == [True, True]


def test_a_case_is_not_measured_where_the_scatter_cannot_be(folder: Path) -> None:
    class Unmeasurable(DeviceFigures):
        @property
        def scatter(self) -> Scatter:  # type: ignore[override]
            raise ChildFailed(Status.RUNTIME_ERROR, "no room for another context")

    class Failing:
        check = staticmethod(lambda *_: Outcome(status=Status.PASSED, stage=Stage.PROPERTIES))
        figures = Unmeasurable(target=None, workers=None, cache=folder)  # type: ignore[arg-type]

    found = Run.measure(Failing(), _spec(folder), CASE, _candidate("equal"), 1)  # type: ignore[arg-type]
    assert found.outcome.status is Status.NOT_MEASURED
    assert found.outcome.message.endswith("could not be measured: no room for another context")
