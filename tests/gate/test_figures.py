"""Two kernels' figures side by side: what is paired with what, what is said once, what fails first."""

from __future__ import annotations

from kevolve.gate.figures import Launch, Side, compared, fails
from kevolve.report.values import Figure


def launch(kernel: str = "k", **figures: float) -> Launch:
    return Launch(kernel=kernel, figures=figures)


def side(*launches: Launch, case: str = "a") -> Side:
    return Side(launches={case: launches})


def figures(old: Side, new: Side, **declared: float) -> tuple[Figure, ...]:
    return compared("sm90", old, new, declared=declared, possible="compiles")


def test_a_renamed_kernel_is_compared_with_the_one_launched_in_its_place() -> None:
    (figure,) = figures(side(launch("before", registers=32)), side(launch("after", registers=64)))
    assert figure == Figure(name="registers", where="sm90 after[a]", old=32, new=64, allowed=40)


def test_kernels_of_which_there_are_more_now_are_compared_together() -> None:
    old = side(launch("whole", registers=32, instructions=100, occupancy=0.5))
    both = launch("first", registers=20, instructions=90, occupancy=1.0), launch("second", registers=48, instructions=60, occupancy=0.25)
    new = side(*both)
    found = {figure.name: (figure.new, figure.where) for figure in figures(old, new)}
    where = "sm90 first+second[a]"
    assert found == {"registers": (48, where), "instructions": (150, where), "occupancy": (0.25, where)}


def test_the_same_pair_of_kernels_is_told_of_once() -> None:
    same = Side(launches={"a": (launch(registers=32),), "b": (launch(registers=32),), "c": (launch(registers=40),)})
    assert [figure.where for figure in figures(same, same)] == ["sm90 k[a]", "sm90 k[c]"]


def test_a_figure_that_one_side_lacks_is_left_out() -> None:
    assert [figure.name for figure in figures(side(launch(loads=1, load_width=4)), side(launch(loads=0)))] == ["loads"]


def test_a_kernel_that_no_longer_compiles_fails_with_the_compiler_s_message() -> None:
    (figure,) = fails(figures(side(launch(registers=32)), Side(problem="error: no such name")))
    assert (figure.name, figure.old, figure.new, figure.extra) == ("compiles", 1, 0, {"message": "error: no such name"})


def test_a_kernel_that_never_compiled_there_passes_and_says_why() -> None:
    (figure,) = figures(Side(problem="too many threads"), side(launch(registers=32)))
    assert figure.extra == {"message": "too many threads"}
    assert fails([figure]) == ()


def test_the_worst_comes_first() -> None:
    old = side(launch(registers=32, spills=0, occupancy=1.0, instructions=100))
    new = side(launch(registers=64, spills=8, occupancy=0.25, instructions=100))
    assert [figure.name for figure in fails(figures(old, new))] == ["spills", "occupancy", "registers"]


def test_a_declared_allowance_lets_it_pass() -> None:
    assert fails(figures(side(launch(registers=32)), side(launch(registers=64)), registers=2.0)) == ()
