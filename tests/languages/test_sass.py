"""A listing of machine code in a few lines: what is told, loops, what is shortened."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kevolve import registry
from kevolve.languages import sass

LISTING = """
Fatbin elf code:
================
arch = sm_90a

		Function : rows
	.headerflags	@"EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                                       /* 0x00000a00ff017b82 */
                                                                                                /* 0x000fe20000000800 */
        /*0010*/                   LDG.E.128 R4, desc[UR4][R2.64] ;                             /* 0x0000000402047981 */
        /*0020*/                   IADD3 R2, R2, 0x10, RZ ;                                     /* 0x0000001002027810 */
        /*0030*/                   LDG.E.128 R8, desc[UR4][R2.64] ;                             /* 0x0000000402087981 */
        /*0040*/               @P0 BAR.SYNC.DEFER_BLOCKING 0x0 ;                                /* 0x0000000000007b1d */
%s        /*0100*/               @P1 BRA 0x50 ;                                                  /* 0xfffffffc00f81947 */
        /*0110*/                   STG.E.64 desc[UR4][R2.64], R4 ;                              /* 0x0000000402007986 */
        /*0120*/                   EXIT ;                                                       /* 0x000000000000794d */
        /*0130*/                   BRA 0x130;                                                   /* 0xfffffffc00fc7947 */
        /*0140*/                   NOP;                                                         /* 0x0000000000007918 */
		Function : small
        /*0000*/                   EXIT ;                                                       /* 0x000000000000794d */
"""
LOOP = "".join(f"        /*{0x50 + 16 * number:04x}*/   FADD R4, R4, R8 ;   /* 0x0 */\n" for number in range(9)) + (
    "        /*00e0*/   @!UP0 LDS.64 R4, [R3] ;   /* 0x0 */\n        /*00f0*/   LDS.64 R6, [R3+0x8] ;   /* 0x0 */\n"
)


def test_a_listing_is_told_in_order_with_its_loops_and_without_its_padding() -> None:
    assert sass.outline(sass.parsed(LISTING % LOOP)) == (
        "`rows`, 19 instructions:\n"
        "  LDG.E.128 x2, BAR.SYNC.DEFER_BLOCKING\n"
        "  loop:\n"
        "    (9), LDS.64 x2\n"
        "  STG.E.64, EXIT\n"
        "`small`, 1 instructions:\n"
        "  EXIT"
    )


def test_long_code_and_many_kernels_are_cut_where_everybody_sees_it() -> None:
    code = [sass.Instruction(16 * number, f"LDG.E.{number}") for number in range(2_000)]
    text = sass.outline({f"kernel{number}": code for number in range(6)})
    assert text.count("[… ") == 4
    assert text.endswith("and 2 shorter kernels")


@pytest.mark.skipif(sass.program() is None, reason="no cuobjdump")
def test_what_a_compiler_made_is_listed(tmp_path: Path) -> None:
    written = registry.load("languages", "cuda")
    if written.missing() is not None:
        pytest.skip(written.missing())
    source = Path(__file__).with_name("rms_norm.cu").read_text()
    assert written.outline(source, cache=tmp_path) == ""
    written.build_for(source, arch="sm90", cache=tmp_path, timeout_s=120)
    text = written.outline(source, cache=tmp_path)
    assert "loop:" in text
    assert "LDG.E" in text


def test_a_listing_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sass, "program", lambda: shutil.which("false"))
    with pytest.raises(subprocess.CalledProcessError):
        sass.listed(tmp_path / "none.so")
