"""What NVIDIA's assembler prints, in an author's words."""

from __future__ import annotations

import shutil

import pytest

from kevolve.languages.ptxas import demangled, remarks, resources, short

TWO = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1fPf' for 'sm_90a'
ptxas info    : Function properties for _Z1fPf
    24 bytes stack frame, 16 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 24 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function '_Z1gPf' for 'sm_90a'
ptxas info    : Function properties for _Z1gPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
"""
LOST = (
    "ptxas info    : (C7520) Potential Performance Loss: wgmma.mma_async instructions are serialized due to program dependence"
    " in the function '{}'\n"
)
WARNING = """kernel.cu(291): warning #177-D: variable "tid" was declared but never referenced
    const int tid = threadIdx.x;
              ^

Remark: The warnings can be suppressed with "-diag-suppress <warning-number>"

"""


def test_the_most_that_any_kernel_needs_is_told_as_figures() -> None:
    assert resources(TWO) == {"registers": 255, "spill_bytes": 24, "shared_bytes": 1024, "kernels": 2}
    assert resources("") == {}


def test_of_several_kernels_each_is_named_with_what_it_needs_those_that_spill_first() -> None:
    assert remarks(TWO).splitlines() == [
        "`_Z1fPf`: 40 registers, 24 bytes of local memory a thread, 1024 bytes of static shared memory",
        "`_Z1gPf`: 255 registers",
    ]


def test_a_single_kernel_without_warnings_needs_no_remarks() -> None:
    assert remarks(TWO[: TWO.index("ptxas info    : Compiling entry function '_Z1g")]) == ""


def test_time_that_the_assembler_says_is_lost_is_told_once_with_the_kernels_that_lose_it() -> None:
    (line,) = remarks(LOST.format("_Z1fPf") + LOST.format("_Z1gPf")).splitlines()
    assert line == (
        "Potential Performance Loss: wgmma.mma_async instructions are serialized due to program dependence (C7520) in `_Z1fPf` and 1 more"
    )


def test_warnings_are_told_with_their_lines_and_without_how_to_silence_them() -> None:
    assert remarks(WARNING).splitlines() == WARNING.splitlines()[:3]


def test_many_kernels_are_counted_beyond_the_first_eight() -> None:
    one = "ptxas info    : Compiling entry function '_Z{0}f' for 'sm_90a'\nptxas info    : Used {0} registers\n"
    lines = remarks("".join(one.format(number) for number in range(10, 30))).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("`_Z29f`: 29 registers", "… 12 more kernels, which need no more", 9)


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("void (anonymous namespace)::fused<6, (bool)1>((anonymous namespace)::Operand, __half*)", "fused<6, (bool)1>"),
        ("rows(float const*, int)", "rows"),
        ("_Z1fPf", "_Z1fPf"),
    ],
)
def test_a_kernels_name_is_shown_without_its_parameters(name: str, wanted: str) -> None:
    assert short(name) == wanted


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="no c++filt (binutils) here")
def test_names_are_shown_as_they_were_written() -> None:
    assert "'f(float*)'" in demangled(TWO)


def test_without_binutils_names_stay_as_the_linker_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert demangled(TWO) == TWO


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="no c++filt (binutils) here")
def test_a_name_that_breaks_the_program_leaves_all_names_as_they_are() -> None:
    hostile = TWO.replace("_Z1fPf", "_Z1f" + "P" * 3_000_000 + "f")
    assert demangled(hostile) in (hostile, hostile.replace("_Z1gPf", "g(float*)"))
