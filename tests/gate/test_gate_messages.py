from __future__ import annotations

from kevolve.evaluate.statistics import Interval
from kevolve.gate import messages
from kevolve.gate.verdict import Finding, Judgement, Look, Rules
from kevolve.report.record import Figure, Side

OLD = Side(path="kernels/scale/gpu.py", hash="1", revision="0123456789abcdef")
NEW = Side(path="kernels/scale/gpu.py", hash="2")
SPILLS = Figure(name="spills", where="sm90 scale_kernel", old=0, new=12, allowed=0)
REGISTERS = Figure(name="registers", where="sm90 scale_kernel", old=32, new=64, allowed=35)
STEADY = Figure(name="flops", where="interpreter", old=1024, new=1024, allowed=1024)


def looked(ratio: Interval) -> Look:
    return Look(ratios={"replayed": ratio}, old_us={"replayed": 38.04}, new_us={"replayed": 40.1}, pairs=7)


def test_a_slowdown_s_message_is_whole() -> None:
    first = looked(Interval(estimate=0.951, low=0.945, high=0.957))
    judged = Judgement(finding=Finding.SLOWER, look=looked(Interval(estimate=0.949, low=0.944, high=0.954)), form="replayed", first=first)
    said = messages.timed(
        "scale[8-9]", judged, Rules(), old=OLD, new=NEW, cause=messages.cause([REGISTERS, STEADY, SPILLS]), again="pytest it"
    )
    assert said == (
        "scale[8-9] is slower than at 012345678: old 38.0 us, new 40.1 us (replayed)\n"
        "  kernel   kernels/scale/gpu.py\n"
        "  speedup  0.949x [0.944, 0.954], 99% interval over 7 pairs; at least 0.980 passes\n"
        "  twice    0.951x [0.945, 0.957] in the processes before\n"
        "  cause    spills 0 -> 12 (sm90 scale_kernel); registers 32 -> 64 (sm90 scale_kernel)\n"
        "  again    pytest it"
    )


def test_what_is_no_slowdown_takes_a_line() -> None:
    judged = Judgement(finding=Finding.SAME, look=looked(Interval(estimate=1.0, low=0.99, high=1.01)), form="replayed", reason="why")
    said = messages.timed("scale[8-9]", judged, Rules(), old=OLD, new=NEW, cause="", again="")
    assert said == "scale[8-9]: same against 012345678: old 38.0 us, new 40.1 us (replayed), 1.000x [0.990, 1.010]; why"


def test_figures_that_did_not_move_are_no_cause() -> None:
    assert messages.cause([STEADY]) == "no static figure moved"


def test_a_grown_kernel_s_message_names_every_figure_and_its_allowance() -> None:
    said = messages.grown("scale", [SPILLS, REGISTERS], old=OLD, new=NEW, reason="no device")
    assert said == (
        "scale grew since 012345678 beyond its allowance, though not timed here (no device)\n"
        "  kernel   kernels/scale/gpu.py\n"
        "  grown    spills 0 -> 12 (sm90 scale_kernel), at most 0\n"
        "           registers 32 -> 64 (sm90 scale_kernel), at most 35"
    )


def test_of_many_figures_the_worst_are_listed_and_the_others_counted() -> None:
    text = messages.grown("scale", [SPILLS] * 11, old=OLD, new=NEW, reason="no device")
    assert text.count("spills 0 -> 12") == 8
    assert text.splitlines()[-1].strip() == "and 3 more; the record's gate has them all (--kevolve-report)"
