"""How many warps of a kernel a multiprocessor (AMD: a compute unit) holds at once, from the limits of its architecture.

Source: CUDA C++ Programming Guide, section "Compute Capabilities", table "Technical Specifications per Compute Capability"
(https://docs.nvidia.com/cuda/cuda-c-programming-guide/#features-and-technical-specifications-technical-specifications-per-compute-capability);
how registers and shared memory are given out: the occupancy calculator's ``cuda_occupancy.h``, shipped with the toolkit.
AMD: LLVM's ``AMDGPUBaseInfo.cpp`` (``getTotalNumVGPRs``, ``getVGPRAllocGranule``, ``getMaxWavesPerEU`` for gfx90a and later) and the
"AMD Instinct MI300" CDNA3 instruction set guide, chapters 2 and 3 (four SIMDs a compute unit, 64 KiB of LDS; CDNA4 has 160 KiB).
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
_REGISTER_UNIT = 256  # registers are given to a warp in such units
_WARP_UNIT = 4  # a block's warps are spread over four partitions
_SHARED_UNIT = 128  # bytes
_REGISTERS = 65536  # a multiprocessor's, of every architecture below


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one multiprocessor holds. ``reserved_bytes``: shared memory that the system takes of each block."""

    warps: int
    blocks: int
    shared_bytes: int
    shared_a_block_bytes: int
    reserved_bytes: int = 1024


def _limits(warps: int, blocks: int, shared_kib: int, block_kib: int, reserved_bytes: int = 1024) -> Limits:
    return Limits(
        warps=warps, blocks=blocks, shared_bytes=shared_kib << 10, shared_a_block_bytes=block_kib << 10, reserved_bytes=reserved_bytes
    )


LIMITS = {
    "sm70": _limits(64, 32, 96, 96, 0),
    "sm75": _limits(32, 16, 64, 64, 0),
    "sm80": _limits(64, 32, 164, 163),
    "sm86": _limits(48, 16, 100, 99),
    "sm87": _limits(48, 16, 164, 163),
    "sm89": _limits(48, 24, 100, 99),
    "sm90": _limits(64, 32, 228, 227),
    "sm100": _limits(64, 32, 228, 227),
    "sm103": _limits(64, 32, 228, 227),
    "sm120": _limits(48, 24, 100, 99),
}


def occupancy(arch: str, *, registers: int, shared_bytes: int, warps: int) -> float | None:
    """The share of a multiprocessor's warps that are resident, 0 where one block does not fit; None for an unknown ``arch``.

    ``registers`` a thread, ``shared_bytes`` a block, ``warps`` a block.
    """
    limits = LIMITS.get(arch)
    if limits is None or warps < 1:
        return None
    by_warps = limits.warps // warps
    warp_registers = _up(max(registers, 1) * WARP, _REGISTER_UNIT)
    by_registers = (_REGISTERS // _WARP_UNIT // warp_registers) * _WARP_UNIT // warps
    block_bytes = _up(shared_bytes + limits.reserved_bytes, _SHARED_UNIT)
    by_shared = limits.shared_bytes // block_bytes if block_bytes else limits.blocks
    by_shared = by_shared if shared_bytes <= limits.shared_a_block_bytes else 0
    return min(by_warps, limits.blocks, by_registers, by_shared) * warps / limits.warps


_SIMDS, _WAVES_A_SIMD, _VGPRS, _VGPR_UNIT = 4, 8, 512, 8  # of gfx942 and gfx950
LDS_BYTES = {"gfx942": 64 << 10, "gfx950": 160 << 10}  # a compute unit's


def amd_occupancy(arch: str, *, registers: int, shared_bytes: int, warps: int) -> float | None:
    """As ``occupancy``. ``registers``: vector registers of a lane, accumulation registers included; ``warps``: wavefronts a block."""
    if arch not in LDS_BYTES or warps < 1:
        return None
    waves = min(_WAVES_A_SIMD, _VGPRS // _up(max(registers, 1), _VGPR_UNIT)) * _SIMDS
    by_shared = LDS_BYTES[arch] // shared_bytes if shared_bytes else waves
    return min(waves // warps, by_shared) * warps / (_SIMDS * _WAVES_A_SIMD)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
