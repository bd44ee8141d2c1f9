"""Measuring a landscape loses nothing to a setting that crashes or hangs; what was measured is stored and read back."""

from __future__ import annotations

import io
import itertools
import json
import sys
from pathlib import Path

import pytest

from benchmarks.search import measure
from benchmarks.search.landscape import load, pack, stored
from benchmarks.search.measure import NoTimer, Timer, compiled, source_path, time_space, write_sources
from benchmarks.search.spaces import SPACES, named

FAKE = """
import json, os, sys, time
print("a library's banner")
print(json.dumps({"device": "none"}), flush=True)
for line in sys.stdin:
    question = json.loads(line)
    number = int(question.get("path", "0.py").rpartition("/")[2].removesuffix(".py"))
    if number == 3:
        os._exit(7)
    if number == 5:
        time.sleep(60)
    answer = {"problem": "wrong"} if number == 4 else {"problem": "", "us": 10.0 + number}
    print(json.dumps({"problem": "", "device": "none"} if question.get("about") else answer), flush=True)
"""


@pytest.fixture
def timer(tmp_path: Path) -> Timer:
    return Timer([sys.executable, "-c", FAKE], tmp_path, answer_s=1.0, start_s=20.0)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_space_has_at_least_500_settings_with_a_source_of_their_own(space) -> None:
    settings = space.settings()
    assert 500 <= len(settings) <= 700
    assert len({space.source(setting) for setting in settings}) == len(settings)
    assert settings[0] == {name: value for name, value in space.family.defaults("triton").items() if name in space.varied}


def test_a_setting_that_crashes_or_hangs_is_told_and_the_next_is_timed(timer: Timer) -> None:
    answers = [timer.ask({"path": f"/x/{number:04d}.py", "samples": 3}) for number in range(2, 7)]
    timer.close()
    assert [answer["problem"] for answer in answers] == ["", "Crashed: the process ended with 7", "wrong", "Hung: no answer", ""]
    assert [answer.get("us") for answer in answers] == [12.0, None, None, None, 16.0]


def test_a_timing_process_that_cannot_begin_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoTimer, match="ended with 3"):
        Timer([sys.executable, "-c", "raise SystemExit(3)"], tmp_path).ask({})


def test_what_was_timed_is_packed_and_read_back(tmp_path: Path, timer: Timer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Timer", lambda command, cache: timer)
    space, out = named("wukong_fm"), io.StringIO()
    clock = itertools.count()
    monkeypatch.setattr(measure.time, "monotonic", lambda: next(clock))
    time_space(space, [0, 1, 3, 4], tmp_path, out, 1000)
    (tmp_path / "lines").write_text(out.getvalue() + json.dumps({"space": space.name, "index": 2, "problem": "CompilationError: x\ny"}))
    pack(tmp_path / "lines", tmp_path / "kept")
    (landscape,) = stored(tmp_path / "kept")
    assert landscape == load(tmp_path / "kept" / "wukong_fm.json")
    settings = [tuple(setting.values()) for setting in space.settings()]
    assert landscape.times_us == {settings[0]: 10.0, settings[1]: 11.0, settings[2]: None, settings[3]: None, settings[4]: None}
    assert (landscape.best_us, landscape.knobs, landscape.about["device"]) == (10.0, space.knobs, "none")
    again = [line for line in map(json.loads, out.getvalue().splitlines()) if "again" in line]
    assert [(line["index"], line["again"]) for line in again] == [(0, 1), (1, 1), (0, 2), (1, 2)]


def test_settings_are_compiled_ahead_and_refusals_are_told(tmp_path: Path) -> None:
    space = named("wukong_fm")
    works = [(space, number) for number in (0, 1, 2)]
    write_sources(works, tmp_path)
    text = source_path(tmp_path, space, 1).read_text()
    source_path(tmp_path, space, 1).write_text(text.replace("tl.dot(", "tl.no_such_thing("))
    source_path(tmp_path, space, 2).write_text("import os\nos._exit(1)\n")
    found = {result["index"]: result["problem"] for result in compiled(works, tmp_path, "sm90", 2)}
    assert found[0] == ""
    assert found[1].startswith("CompilationError: ")
    assert found[2] == "CompilerCrashed: the process ended without a word"
    assert list((tmp_path / "triton").glob("*/multiply.cubin"))
