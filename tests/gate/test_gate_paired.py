"""Old against new in processes of their own, on this machine's CPU."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevolve import registry
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Workers
from kevolve.evaluate.timing import timed_pool
from kevolve.gate.paired import Comparison, Untimed
from kevolve.gate.verdict import Finding, Judgement, Rules
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec

KERNELS = """
import os, torch

torch.set_num_threads(1)  # tests run beside each other

def quick(x):
    return torch.softmax(x, -1)

def slow(x):
    for _ in range(5):
        made = torch.softmax(x, -1)
    return made

def dies(x):
    os._exit(3)
"""
CASE = Case(id="64", values={"rows": 64})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("paired")
    (made / "paired_kernels.py").write_text(textwrap.dedent(KERNELS))
    return made


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[Workers]:
    with Workers(sys_path=[str(folder)], scratch=folder / "scratch") as made:
        yield made


def compared(workers: Workers, folder: Path, old: str, new: str, rules: Rules, *, launched: bool = True) -> Judgement:
    spec = Spec(
        name="softmax",
        nodeid="t.py::test_softmax",
        folder=folder,
        describe=lambda rows: (Tensor(rows, 512),),
        reference=Reference(module="paired_kernels", qualname="quick", file=folder / "paired_kernels.py", inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash="paired",
    )
    sides = {
        side: Candidate(name=name, language="cpp", entry=name, callable=f"paired_kernels:{name}")
        for side, name in (("old", old), ("new", new))
    }
    target = registry.load("targets", "cpu")
    with timed_pool(spec, CASE, seed=1) as pool:
        fields = {"workers": workers, "spec": spec, "case": CASE, "target": target, "pool": pool}
        return Comparison(**fields, **sides, pairs=4, budget_s=0.1, believed=True, launched=launched).judge(rules, 3)


@pytest.mark.parametrize(("old", "new", "expected"), [("quick", "slow", Finding.SLOWER), ("slow", "quick", Finding.FASTER)])
def test_a_kernel_of_five_times_the_work_is_told_from_the_other(
    workers: Workers, folder: Path, old: str, new: str, expected: Finding
) -> None:
    judged = compared(workers, folder, old, new, Rules())
    assert judged.finding is expected, judged
    assert (judged.first is not None) is (expected is Finding.SLOWER)
    assert judged.form == "launched"
    assert "launched times, the same form of both kernels" in judged.look.method
    slower, quicker = (judged.look.old_us, judged.look.new_us) if expected is Finding.FASTER else (judged.look.new_us, judged.look.old_us)
    assert slower["launched"] > quicker["launched"]


def test_equal_kernels_are_not_told_apart(workers: Workers, folder: Path) -> None:
    judged = compared(workers, folder, "quick", "quick", Rules(allowance=0.9))
    assert judged.finding in (Finding.SAME, Finding.UNCLEAR)


@pytest.mark.parametrize(("old", "new", "who"), [("dies", "quick", "the old kernel"), ("quick", "dies", "the new kernel")])
def test_a_side_that_fails_is_named(workers: Workers, folder: Path, old: str, new: str, who: str) -> None:
    with pytest.raises(Untimed, match=f"{who} failed while it was timed: exited with code 3"):
        compared(workers, folder, old, new, Rules())


def test_what_cannot_be_replayed_is_not_timed_where_launched_times_do_not_count(workers: Workers, folder: Path) -> None:
    with pytest.raises(Untimed, match="cannot be captured"):
        compared(workers, folder, "quick", "quick", Rules(), launched=False)
