import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.plugin import Console as PytestConsole
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


def test_a_counterexample_is_told_with_what_is_wrong_with_it():
    wrong = Outcome(status=Status.RUNTIME_ERROR, stage=Stage.QUICK, message="f at rows=1, float16\nillegal memory access\nmore")
    line = attempt_line(1, "tiles", wrong, 0.0, None, None)
    assert line == "    1  RUNTIME_ERROR  best none  tiles: f at rows=1, float16; illegal memory access"


def test_a_kernel_that_was_checked_but_not_timed_says_so():
    assert (
        accepted_line("softmax", Path("kernels/softmax/cpu.py"), None, "eager")
        == "kevolve: softmax wrote kernels/softmax/cpu.py: checked, not timed"
    )


def test_a_written_kernel_is_told_with_its_interval():
    speedup = Speedup(estimate=2.31, low=2.25, high=2.38)
    for baseline, name in (("eager", "eager"), ("compile", "torch.compile")):
        line = accepted_line("softmax", Path("kernels/softmax/cpu.cpp"), speedup, baseline)
        assert line == f"kevolve: softmax wrote kernels/softmax/cpu.cpp: 2.31x [2.25, 2.38] over {name}"


def test_the_end_of_a_search_gives_its_reason():
    line = finished_line("softmax", 2.31, 14, "goal reached")
    assert line == "kevolve: softmax best 2.31x after 14 evaluations (goal reached); checking it anew"
    assert finished_line("softmax", None, 1, "nothing left") == "kevolve: softmax best none after 1 evaluation (nothing left)"


def test_the_live_view_has_what_is_tried_the_last_result_the_best_and_the_time_left():
    view = View(title="kevolve: softmax on cpu in cpp", number=3, idea="16 lanes", last="2.10x  8 lanes", best=2.31, ends=160.0)
    assert view.lines(now=100.0) == (
        "kevolve: softmax on cpu in cpp, 1 min 00 s left",
        "  trying  16 lanes",
        "  last    2.10x  8 lanes",
        "  best    2.31x after 3 evaluations",
    )
    assert View(title="kevolve: softmax on cpu in cpp").lines(now=0.0) == (
        "kevolve: softmax on cpu in cpp",
        "  trying  …",
        "  last    …",
        "  best    none after 0 evaluations",
    )


def events():
    proposal = Proposal(language="cpp", source="", operator="samples", idea="one pass")
    fields = dict(id=1, run=1, spec="softmax", spec_hash="", target="cpu", source_hash="", normal_hash="", seconds=1.0, created="")
    node = Node(proposal=proposal, outcome=PASSED, fitness=2.0, **fields)
    yield Progress(kind="trying", proposal=proposal, seconds_left=90.0)
    yield Progress(kind="done", proposal=proposal, node=node, best=node, evaluations=1, seconds_left=60.0)
    yield Progress(kind="duplicate", proposal=proposal, node=node, best=node, evaluations=1)
    yield Progress(kind="stopped", best=node, evaluations=1, reason="nothing left to propose")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can be redrawn, whatever the tests run in."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("term", "kind"), [("xterm", LiveProgress), ("dumb", PlainProgress)])
def test_a_terminal_that_cannot_be_redrawn_has_a_line_an_attempt(monkeypatch: pytest.MonkeyPatch, term: str, kind: type) -> None:
    monkeypatch.setenv("TERM", term)
    reporter = SimpleNamespace(isatty=True, ensure_newline=lambda: None)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True, write=lambda _: 0, flush=lambda: None, encoding="utf-8"))
    assert isinstance(PytestConsole(reporter, None).progress(), kind)


def test_without_a_terminal_there_is_a_line_an_attempt_and_none_for_duplicates():
    lines = []
    progress = PlainProgress(lines.append)
    progress.searching("softmax", "cpu", "cpp")
    for event in events():
        follow(progress, "softmax")(event)
    assert lines == [
        "kevolve: softmax on cpu in cpp",
        "    1  2.00x  best 2.00x  1 min 00 s left  one pass",
        "kevolve: softmax best 2.00x after 1 evaluation (nothing left to propose); checking it anew",
    ]


def test_the_live_display_is_redrawn_and_leaves_only_what_was_decided():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    progress = LiveProgress(console, now=lambda: 0.0)
    progress.searching("softmax", "cpu", "cpp")
    for event in events():
        follow(progress, "softmax")(event)
    progress.accepted("softmax", Path("cpu.cpp"), Speedup(estimate=2.0, low=1.9, high=2.1), "eager")
    progress.close()
    shown = stream.getvalue()
    assert "kevolve: softmax on cpu in cpp" in shown
    assert "kevolve: softmax wrote cpu.cpp: 2.00x [1.90, 2.10] over eager" in shown
    assert shown.index("best 2.00x after 1 evaluation (nothing") < shown.index("wrote cpu.cpp")


def test_time_is_shown_as_left_before_the_first_attempt_ends():
    progress = LiveProgress(Console(file=io.StringIO(), force_terminal=True, width=80), now=lambda: 10.0)
    progress.searching("softmax", "cpu", "cpp")
    follow(progress, "softmax")(next(events()))
    assert progress._view.lines(now=10.0)[:2] == ("kevolve: softmax on cpu in cpp, 1 min 30 s left", "  trying  one pass")
    progress.close()


def test_a_long_line_breaks_between_words_and_never_inside_a_path():
    stream = io.StringIO()
    progress = LiveProgress(Console(file=stream, force_terminal=True, width=60, color_system=None), now=lambda: 0.0)
    path = Path("some/folder/kernels/gated_activation_of_a_feed_forward_network/cpu.cpp")
    progress.accepted("gated_activation", path, Speedup(estimate=2.0, low=1.9, high=2.1), "eager")
    assert stream.getvalue().splitlines() == ["kevolve: gated_activation wrote", f"  {path}:", "  2.00x [1.90, 2.10] over eager"]
