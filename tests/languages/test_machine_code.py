"""Instructions counted in machine code: against a disassembler's listing, and in AMD's assembler text."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kevolve.languages.cubin import BadCubin
from kevolve.languages.machine_code import of_amdgcn, of_cubin
from kevolve.languages.occupancy import amd_occupancy

KERNELS = Path(__file__).with_name("counted_kernels.py")
CLASSES = {
    "loads": ("LDG",),
    "stores": ("STG",),
    "atomic": ("ATOMG", "RED"),
    "shared": ("LDS", "STS", "LDSM", "STSM", "LDGSTS"),
    "matrix": ("HMMA", "HGMMA", "UTCHMMA"),
    "float64": ("DADD", "DMUL", "DFMA", "DSETP"),
}
BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


def disassembler() -> Path | None:
    """The one that comes with Triton."""
    found = find_spec("triton")
    folders = found.submodule_search_locations or [] if found is not None else []
    paths = [path for folder in folders for path in (Path(folder) / "backends").glob("*/bin/nvdisasm")]
    return paths[0] if paths else None


def listed(cubin: bytes, folder: Path) -> list[str]:
    """The mnemonics of a cubin's instructions."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    done = subprocess.run([str(disassembler()), "-c", str(path)], capture_output=True, text=True, check=True, timeout=60)
    found = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", done.stdout, re.MULTILINE)
    return [mnemonic for mnemonic in found if mnemonic != "NOP"]


@pytest.fixture(scope="module")
def compiled() -> Any:
    """``compiled(arch)``: cubins, or AMD's texts, of four kernels. In a process of its own: Triton looks for no interpreter there."""
    from tests.languages.counted_kernels import compile_all

    return compile_all


@pytest.mark.skipif(disassembler() is None, reason="this Triton comes without a disassembler")
@pytest.mark.parametrize("arch", [80, 90, 100])
def test_the_counts_are_the_disassembler_s(arch: int, compiled: Any, tmp_path: Path) -> None:
    classes: Counter[str] = Counter()
    for name, cubin in compiled(arch).items():
        (counted,) = of_cubin(cubin).values()
        mnemonics = listed(cubin, tmp_path)
        bases = Counter(mnemonic.partition(".")[0] for mnemonic in mnemonics)
        assert counted.instructions == len(mnemonics), name
        for what, names in CLASSES.items():
            assert getattr(counted, what) == sum(bases[base] for base in names), (name, what)
        widths = [
            next((BYTES[part] for part in mnemonic.split(".") if part in BYTES), 4) for mnemonic in mnemonics if mnemonic.startswith("LDG.")
        ]
        assert counted.load_bytes == sum(widths), name
        classes.update({what for what in CLASSES if getattr(counted, what)})
    assert set(classes) == set(CLASSES)  # each class was there to be counted


def test_amd_s_text_says_the_same_of_itself(compiled: Any) -> None:
    found = {name: of_amdgcn(text) for name, text in compiled("gfx942").items()}
    counted, metadata = found["scaled"]
    assert metadata["vgpr_count"] > 0
    assert metadata["vgpr_spill_count"] == 0
    assert (counted.loads, counted.load_bytes, counted.stores) == (1, 16, 1)
    assert counted.instructions > 20
    assert found["multiplied"][0].matrix > 0
    assert found["added"][0].atomic > 0
    assert found["doubled"][0].float64 > 0


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x02\x01" + b"\xff" * 80, b"no cubin at all"])
def test_bytes_that_are_no_cubin_are_refused(data: bytes) -> None:
    with pytest.raises(BadCubin):
        of_cubin(data)


@pytest.mark.parametrize(
    "arch, registers, shared_bytes, warps, expected",
    [
        ("gfx942", 64, 0, 4, 1.0),
        ("gfx942", 65, 0, 4, 7 * 4 / 32),  # given out in eights: seven waves a SIMD
        ("gfx942", 256, 0, 4, 2 * 4 / 32),
        ("gfx942", 32, 64 << 10, 4, 4 / 32),  # one block takes all of the LDS
        ("gfx942", 32, 65 << 10, 4, 0.0),
        ("gfx950", 32, 65 << 10, 4, 2 * 4 / 32),
        ("sm90", 32, 0, 4, None),
    ],
)
def test_amd_s_occupancy_follows_from_registers_and_lds(
    arch: str, registers: int, shared_bytes: int, warps: int, expected: float | None
) -> None:
    assert amd_occupancy(arch, registers=registers, shared_bytes=shared_bytes, warps=warps) == expected
