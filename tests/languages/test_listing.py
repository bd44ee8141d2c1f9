"""A processor's machine code, counted in a listing."""

from __future__ import annotations

from kevolve.languages.listing import counted

LISTING = """
kernel.so:     file format elf64-x86-64

0000000000001100 <scale>:
    1100:\tvmovups (%rdi),%ymm0
    1104:\tvfmadd231ps %ymm1,%ymm0,%ymm2
    1109:\tvmulps %ymm0,%ymm0,%ymm0
    110d:\tvaddss %xmm0,%xmm1,%xmm1
    1111:\tmulsd  %xmm0,%xmm0
    1115:\tcall   1050 <expf@plt>
    111a:\tbnd jmp 1100 <scale>
    111f:\tnopw   0x0(%rax,%rax,1)
    1125:\tret
"""


def test_instructions_are_told_apart_by_what_they_work_on() -> None:
    assert counted(LISTING) == {"code_instructions": 8, "packed": 2, "scalar": 2, "calls": 1}


def test_a_text_that_is_no_listing_has_none() -> None:
    assert counted("objdump: no such file") == {"code_instructions": 0, "packed": 0, "scalar": 0, "calls": 0}
