"""What ``perf stat -x ';'`` writes, read; and when it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevolve.targets.perf import Perf, parse
from kevolve.targets.profile import Unprofiled

# perf-stat(1), "CSV FORMAT": value; unit; event; time it was counted; share of the time; metric; its unit.
WHOLE = """# started on Mon Jan  5 10:00:00 2026

2000000000;;cycles:u;600000000;100.00;;
5000000000;;instructions:u;600000000;100.00;2.50;insn per cycle
80000000;;cache-references:u;600000000;66.67;;
4000000;;cache-misses:u;600000000;66.67;5.00;of all cache refs
400000000;;branches:u;600000000;66.67;;
2000000;;branch-misses:u;600000000;66.67;0.50;of all branches
<not counted>;;dTLB-load-misses:u;0;0.00;;
812.50;msec;task-clock;812500000;100.00;1.998;CPUs utilized
400;;page-faults;812500000;100.00;492.308;/sec
"""
VIRTUAL = """<not supported>;;cycles:u;0;100.00;;
<not supported>;;instructions:u;0;100.00;;
812,50;msec;task-clock;812500000;100.00;1.998;CPUs utilized
"""


def test_counts_are_told_a_call_with_what_they_say_of_each_other() -> None:
    profile = parse(WHOLE, calls=100)
    told = {counter.name: (round(counter.value, 3), counter.unit) for counter in profile.counters}
    assert told["cycles"] == (2e7, "")
    assert told["processor time"] == (8125.0, "us")
    assert told["page faults"] == (4.0, "")
    assert told["instructions a cycle"] == (2.5, "")
    assert told["cache misses of references"] == (5.0, "%")
    assert told["mispredicted branches"] == (0.5, "%")
    assert profile.missing[0].startswith("TLB load misses (not counted on this ")
    assert profile.text.splitlines()[0] == "perf stat, per call over 100 calls:"
    assert "- cycles 20,000,000" in profile.text
    assert len(profile.text.splitlines()) <= 20


def test_a_machine_without_counters_still_tells_its_software_events_and_says_what_it_lacks() -> None:
    profile = parse(VIRTUAL, calls=10)
    assert [counter.text for counter in profile.counters] == ["processor time 81,250 us"]
    assert profile.missing[0].startswith("cycles, instructions (not supported on this ")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no output"), ("Error: no permission", "Error: no permission"), ("<not supported>;;cycles:u;0;0;;", "not supported")],
)
def test_without_one_figure_there_is_no_profile(text: str, said: str) -> None:
    with pytest.raises(Unprofiled, match=f"perf counted nothing: {said}"):
        parse(text, calls=1)


def test_it_is_missing_where_there_is_no_program_or_the_kernel_permits_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paranoid = tmp_path / "paranoid"
    here = Perf(paranoid=paranoid, program="sh")
    assert Perf(program="no-such-perf").missing() == "no no-such-perf on PATH (Debian: apt install linux-perf)"
    assert str(here.missing()).endswith("is not there: a system without performance events")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    paranoid.write_text("3\n")
    assert here.missing() == "perf_event_paranoid is 3: a process may not count its own events; 2 would do"
    paranoid.write_text("2\n")
    assert here.missing() is None
