import io
from pathlib import Path

from rich.console import Console

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.report.follow import follow
from kevolve.report.progress import LiveProgress, PlainProgress, View, accepted_line, attempt_line, finished_line
from kevolve.report.record import Speedup
from kevolve.search.loop import Progress
from kevolve.search.node import Node, Proposal

PASSED = Outcome(status=Status.PASSED, stage=Stage.QUICK)
REFUSED = Outcome(status=Status.COMPILE_ERROR, stage=Stage.COMPILE, message="cpu.cpp:3:1: error: expected ';'\nnote: …")


def test_an_attempt_is_one_line():
    line = attempt_line(3, "one pass, 8 lanes", PASSED, 2.314, 2.314, 250)
    assert line == "    3  2.31x  best 2.31x  4 min 10 s left  one pass, 8 lanes"


def test_a_refused_attempt_says_why_in_the_same_line():
    line = attempt_line(12, "two passes", REFUSED, 0.0, None, None)
    assert line == "   12  COMPILE_ERROR  best none  two passes: cpu.cpp:3:1: error: expected ';'"


def test_a_kernel_that_was_checked_but_not_timed_says_so():
    assert (
        accepted_line("softmax", Path("kernels/softmax/cpu.py"), None)
        == "kevolve: softmax wrote kernels/softmax/cpu.py: checked, not timed"
    )


def test_a_written_kernel_is_told_with_its_interval():
    line = accepted_line("softmax", Path("kernels/softmax/cpu.cpp"), Speedup(estimate=2.31, low=2.25, high=2.38))
    assert line == "kevolve: softmax wrote kernels/softmax/cpu.cpp: 2.31x [2.25, 2.38] over eager"


def test_the_end_of_a_search_gives_its_reason():
    assert finished_line("softmax", 2.31, 14, "goal reached") == "kevolve: softmax best 2.31x after 14 evaluations (goal reached)"
    assert finished_line("softmax", None, 1, "nothing left") == "kevolve: softmax best none after 1 evaluation (nothing left)"


def test_the_live_view_has_what_is_tried_the_last_result_the_best_and_the_time_left():
    view = View(title="kevolve: softmax on cpu in cpp", number=3, idea="16 lanes", last="2.10x  8 lanes", best=2.31, ends=160.0)
    assert view.lines(now=100.0) == (
        "kevolve: softmax on cpu in cpp: trying 16 lanes",
        "  last  2.10x  8 lanes",
        "  best  2.31x after 3 evaluations, time left: 1 min 00 s",
    )


def events():
    proposal = Proposal(language="cpp", source="", operator="samples", idea="one pass")
    fields = dict(id=1, run=1, spec="softmax", spec_hash="", target="cpu", source_hash="", normal_hash="", seconds=1.0, created="")
    node = Node(proposal=proposal, outcome=PASSED, fitness=2.0, **fields)
    yield Progress(kind="trying", proposal=proposal)
    yield Progress(kind="done", proposal=proposal, node=node, best=node, evaluations=1, seconds_left=60.0)
    yield Progress(kind="duplicate", proposal=proposal, node=node, best=node, evaluations=1)
    yield Progress(kind="stopped", best=node, evaluations=1, reason="nothing left to propose")


def test_without_a_terminal_there_is_a_line_an_attempt_and_none_for_duplicates():
    lines = []
    progress = PlainProgress(lines.append)
    progress.searching("softmax", "cpu", "cpp")
    for event in events():
        follow(progress, "softmax")(event)
    assert lines == [
        "kevolve: softmax on cpu in cpp",
        "    1  2.00x  best 2.00x  1 min 00 s left  one pass",
        "kevolve: softmax best 2.00x after 1 evaluation (nothing left to propose)",
    ]


def test_the_live_display_is_redrawn_and_leaves_only_what_was_decided():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    progress = LiveProgress(console, now=lambda: 0.0)
    progress.searching("softmax", "cpu", "cpp")
    for event in events():
        follow(progress, "softmax")(event)
    progress.accepted("softmax", Path("cpu.cpp"), Speedup(estimate=2.0, low=1.9, high=2.1))
    progress.close()
    shown = stream.getvalue()
    assert "softmax on cpu in cpp: trying" in shown
    assert "kevolve: softmax wrote cpu.cpp: 2.00x [1.90, 2.10] over eager" in shown
    assert shown.index("best 2.00x after 1 evaluation (nothing") < shown.index("wrote cpu.cpp")
