import re
from dataclasses import replace
from urllib.parse import unquote

import pytest

from kevolve.report import words
from kevolve.report.github import SUMMARY_BYTES, commands, summary
from kevolve.report.record import Kernel, Record
from tests.report.test_escape import ATTACKS


def test_a_failed_kernel_is_annotated_at_its_file_worst_first(full):
    lines = commands(full)
    assert lines[0] == ("::error file=kernels/rms_norm/cpu.cpp,line=1,title=slower%3A rms_norm[float32-1] on cpu::1.12x slower")
    assert lines[1].startswith("::error file=kernels/softmax/cpu.cpp,line=1,title=grown%3A softmax on cpu::registers 32 to 255")
    assert lines[2] == (
        "::error file=suites/kernels/rms_norm/cpu.cpp,line=1,title=TOO_SLOW%3A rms_norm[float32-1] on cpu::"
        "0.90x over eager, expected at least 1.20x"
    )
    assert lines[3].endswith("title=INCORRECT_NUMERICAL%3A softmax[properties] on cpu::3 of 64 elements differ%0Aworst: …")
    assert len(lines) == 4


def test_several_cases_of_one_kernel_are_one_annotation(full):
    slow = full.results[2]
    lines = commands(replace(full, gate=(), properties=(), results=tuple(replace(slow, case=str(n)) for n in range(4))))
    assert len(lines) == 1
    assert lines[0].endswith("%0Aand 3 more of this kernel")


def test_a_kernel_that_the_gate_stops_is_annotated_once_with_the_gates_verdict(full):
    slow = replace(full.results[2], kernel=Kernel(path="kernels/rms_norm/cpu.cpp", hash="ab" * 32))
    lines = commands(replace(full, results=(slow,), properties=()))
    assert [line.partition("title=")[2].partition("%3A")[0] for line in lines] == ["slower", "grown"]
    assert lines[0].endswith("1.12x slower%0Aand 1 more of this kernel")


def test_no_more_is_annotated_than_is_shown(full):
    slow = full.results[2]
    many = tuple(replace(slow, case=str(n), kernel=Kernel(path=f"kernels/{n}/cpu.cpp", hash="ab" * 32)) for n in range(40))
    assert len(commands(replace(full, results=many))) == 10


def test_what_could_not_be_measured_is_a_warning(full):
    odd = replace(full.gate[0], verdict="unmeasurable", message="two workers share the cores")
    (line,) = commands(replace(full, gate=(odd,), results=(), properties=()))
    assert line.startswith("::warning file=kernels/rms_norm/cpu.cpp,")


def test_a_kernel_that_is_not_there_is_annotated_at_its_test_below_the_repository(full):
    row = replace(full.results[3], kernel=None, extra={"kernel_missing": True, "test": "suites/test_softmax.py::test_softmax"})
    (line,) = commands(Record(environment=full.environment, results=(row,)), prefix="python")
    assert line.startswith("::error file=python/suites/test_softmax.py,line=1,")


@pytest.mark.parametrize("attack", [*ATTACKS, "x::error::y", "a,line=9", "50%25", "\r\n::add-mask::e"])
def test_an_annotation_is_one_command_whatever_its_text(full, attack):
    kernel = Kernel(path=f"kernels/{attack}.cpp", hash="ab" * 32)
    row = replace(full.results[2], spec=attack, case=attack, message=attack, kernel=kernel)
    (line,) = commands(Record(environment=full.environment, results=(row,)))
    found = re.fullmatch(r"::error file=([^,:\r\n]*),line=1,title=([^,:\r\n]*)::([^\r\n]*)", line)
    assert found, line
    assert "\x1b" not in line
    assert unquote(found[1]) == words.line(f"kernels/{attack}.cpp")


def test_a_summary_is_cut_to_the_limit_of_github_with_the_worst_and_a_count(full):
    slow = replace(full.results[2], spec="the_slow_one")
    rows = tuple(replace(full.results[0], case=f"{n:05}-" + "x" * 80) for n in range(9000))
    shown = summary(replace(full, results=(*rows, slow)))
    assert 0.4 * SUMMARY_BYTES < len(shown.encode()) <= SUMMARY_BYTES
    assert "the_slow_one" in shown
    left = re.search(r"… ([\d,]+) more of 9,001 left out, the worst are shown", shown)
    assert left
    assert int(left[1].replace(",", "")) + shown.count("xxx` |") + 1 == 9001


def test_a_summary_counts_bytes_and_not_characters(full):
    rows = tuple(replace(full.results[0], case=f"{n}-" + "é" * 50) for n in range(500))
    assert len(summary(replace(full, results=rows), limit=20_000).encode()) <= 20_000


def test_where_nothing_fits_there_is_no_summary(full):
    assert summary(full, limit=10) == ""
