"""What bounds a kernel that is right: its place between the floor and the clock, and what the compiler says it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from kevolve.evaluate.outcome import Status
from kevolve.knowledge.evidence import Evidence, Finding, Timing

ARITHMETIC = ("matmul", "attention", "convolution")  # families whose floor is mostly one of operations
_RIGHT = (Status.PASSED, Status.TOO_SLOW, Status.NOT_MEASURED)
_AT_THE_FLOOR = 0.85
_SHORT_US, _SHORT_HOST_US = 20.0, 15.0  # of a call whose floor is half of that or less: starting it is what takes the time
_FEW = 0.35  # resident warps, below which latency is hidden badly
_MANY_REGISTERS = 128
_UNEVEN = 1.8  # the best case's speedup over the worst's


def at_the_floor(evidence: Evidence) -> Finding | None:
    """Nothing much to gain."""
    lights = _lights(evidence)
    if not lights or min(lights) < _AT_THE_FLOOR:
        return None
    return Finding(
        bottleneck="memory",
        says=f"Every case runs at {_percent(min(lights))} of the speed of light or better: there is little left to gain.",
        words="roofline speed of light floor bandwidth fusion fewer bytes",
        directions=("Only fewer bytes help now: fuse what comes before or after, or store a narrower type where the spec allows it.",),
    )


def spills(evidence: Evidence) -> Finding | None:
    """Registers that the compiler put into memory."""
    spilled = evidence.resources.get("spill_bytes", 0)
    if not _right(evidence) or not spilled:
        return None
    return Finding(
        bottleneck="registers",
        says=f"The compiler spills {spilled:.0f} bytes of registers a thread ({_needs(evidence)}).",
        words="register spills local memory pressure occupancy num_warps tile size smaller block unroll launch bounds",
        directions=(
            "Smaller tiles, or more warps for the same tile, until nothing spills.",
            "Shorten lifetimes: load late, store early, recompute cheap values, unroll less.",
        ),
    )


def few_warps(evidence: Evidence) -> Finding | None:
    """Too little in flight to hide latency."""
    occupancy = evidence.resources.get("occupancy")
    if not _right(evidence) or occupancy is None or occupancy >= _FEW or _is_arithmetic(evidence):
        return None
    registers = evidence.resources.get("registers", 0)
    reason = (
        "registers"
        if registers >= _MANY_REGISTERS
        else "shared memory"
        if evidence.resources.get("shared_bytes", 0) > 48 << 10
        else "block size"
    )
    return Finding(
        bottleneck="occupancy",
        says=f"Only {occupancy:.0%} of the warps are resident ({_needs(evidence)}): {reason} limits them.",
        words=f"occupancy registers warps resident latency hiding num_warps block size {reason}",
        directions=(
            "Fewer registers or less shared memory a block, so that more blocks are resident.",
            "More independent loads in flight in each thread.",
        ),
    )


def launching(evidence: Evidence) -> Finding | None:
    """So short that starting it is what takes the time."""
    short = _SHORT_HOST_US if evidence.on_host else _SHORT_US
    empty = evidence.empty_call_us or 0.0
    found = [
        timing for timing in evidence.timings if timing.time_us and timing.time_us < max(short, 3 * empty) and (timing.light or 0.0) < 0.7
    ]
    if not _right(evidence) or not found:
        return None
    worst = min(found, key=lambda timing: timing.speedup)
    return Finding(
        bottleneck="launch",
        says=f"{worst.case} takes {worst.time_us:.1f} us, and the work itself {worst.floor_us or 0:.1f}: starting it costs the most.",
        words="launch overhead small kernel host cost wrapper allocation grid threads wake parallel region threshold "
        + ("openmp threads" if evidence.on_host else "graph replay specialisation cache persistent"),
        directions=(
            "One launch instead of several, and nothing on the host but allocating the output; keep arguments few.",
            "Below a threshold run on one thread: waking the others costs more than the work.",
        )[:: -1 if evidence.on_host else 1],
    )


def bound(evidence: Evidence) -> Finding | None:
    """Memory or arithmetic, by the floor where it is known and by the family where it is not."""
    if not _right(evidence) or (evidence.status is Status.NOT_MEASURED and not evidence.timings):
        return None
    lights = _lights(evidence)
    worst = min((timing for timing in evidence.timings if timing.light is not None), key=lambda timing: timing.light or 0, default=None)
    position = f" The slowest case, {worst.case}, runs at {_percent(worst.light)} of the speed of light." if worst and worst.light else ""
    if lights and min(lights) >= _AT_THE_FLOOR:
        return None
    return _arithmetic(evidence, position) if _is_arithmetic(evidence) else _traffic(evidence, position)


def _arithmetic(evidence: Evidence, position: str) -> Finding:
    words = "compute bound arithmetic tensor cores matrix tile dot pipelining stages operand precision"
    host = "compute bound vectorisation fma register tile blocking cache simd avx"
    return Finding(
        bottleneck="compute",
        says="Arithmetic bounds it." + position,
        words=host if evidence.on_host else words,
        directions=(
            "Use the matrix units with the widest tile that fits, and keep them fed: loads two or three stages ahead.",
            "Change the order of the products where the sizes allow fewer operations.",
        )
        if not evidence.on_host
        else (
            "Block for registers and the first-level cache: an accumulator tile of independent fused multiply-adds.",
            "Change the order of the products where the sizes allow fewer operations.",
        ),
    )


def _traffic(evidence: Evidence, position: str) -> Finding:
    words = "memory bound bandwidth traffic coalesced vectorised access fusion one pass fewer bytes cache roofline"
    return Finding(
        bottleneck="memory",
        says="Memory traffic bounds it." + position,
        words=words + (" prefetch non-temporal stores" if evidence.on_host else " l2 registers row"),
        directions=(
            "Read each input once and write each output once: fuse the passes, keep a row in registers or the nearest cache.",
            "Make neighbouring lanes read neighbouring addresses, 16 bytes each, with several loads in flight.",
        ),
    )


def uneven(evidence: Evidence) -> Finding | None:
    """One case far behind the others."""
    timings = [timing for timing in evidence.timings if timing.speedup > 0]
    if not _right(evidence) or len(timings) < 2:
        return None
    best, worst = max(timings, key=lambda timing: timing.speedup), min(timings, key=lambda timing: timing.speedup)
    if best.speedup < _UNEVEN * worst.speedup:
        return None
    missed = f", and {worst.least:g}x is asked for" if worst.least and worst.speedup < worst.least else ""
    return Finding(
        bottleneck="latency",
        says=f"Cases differ: {worst.case} {worst.speedup:.2f}x, {best.case} {best.speedup:.2f}x{missed}.",
        words="autotuning shape specialisation dispatch short rows long rows small batch parallelism split heuristics per size",
        directions=(f"Give {worst.case} a path of its own: other blocks, another split of the work, chosen by size.",),
    )


def single_threaded(evidence: Evidence) -> Finding | None:
    """A kernel on the host that uses one core, or no vectors."""
    if not _right(evidence) or not evidence.on_host or not evidence.is_native:
        return None
    threads, lanes = (
        evidence.has(r"omp\s+parallel", r"std::thread"),
        evidence.has(r"omp\s+(?:parallel\s+)?(?:for\s+)?simd", r"_mm(?:256|512)?_", r"\bsimd\b"),
    )
    if threads and lanes:
        return None
    what = "one thread" if not threads else "no explicit vectors"
    return Finding(
        bottleneck="compute",
        says=f"It uses {what}.",
        words="openmp parallel for threads scheduling static"
        if not threads
        else "vectorisation simd omp simd reduction loop aliasing restrict autovectorise",
        directions=("Share the outer loop among the cores (`#pragma omp parallel for schedule(static)`), from a size on.",)
        if not threads
        else ("Make the inner loop one that vectorises: `#pragma omp simd reduction(…)`, restrict pointers, no calls, no early exit.",),
    )


def scalar_functions(evidence: Evidence) -> Finding | None:
    """A library function called element by element inside a loop on the host."""
    if (
        not _right(evidence)
        or not evidence.on_host
        or not evidence.has(r"\bstd::(?:exp|log|tanh|erf|pow|sin|cos)\w*\s*\(", r"[^\w:](?:expf|logf|tanhf|erff|powf)\s*\(")
    ):
        return None
    return Finding(
        bottleneck="compute",
        says="It calls the C library's functions element by element.",
        words="vector math exp log polynomial approximation simd function call range reduction libmvec",
        directions=("Write exp (log, tanh) as a range reduction and a polynomial in the loop itself: it then vectorises.",),
    )


def unmeasured(evidence: Evidence) -> Finding | None:
    """Right, and nobody knows how fast."""
    if evidence.status is not Status.NOT_MEASURED or evidence.timings:
        return None
    arithmetic = _is_arithmetic(evidence)
    needs = _needs(evidence)
    reason = (evidence.message.strip().splitlines() or ["no device"])[0]
    found = _arithmetic(evidence, "") if arithmetic else _traffic(evidence, "")
    return replace(
        found,
        says=f"It is right and was not timed: {reason}." + (f" It needs {needs}." if needs else ""),
        words=f"{found.words} tile autotuning {' '.join(evidence.families)}",
    )


# --- figures ---


def _right(evidence: Evidence) -> bool:
    return evidence.status in _RIGHT


def _lights(evidence: Evidence) -> Sequence[float]:
    return [timing.light for timing in evidence.timings if timing.light is not None] if _right(evidence) else []


def _is_arithmetic(evidence: Evidence) -> bool:
    said = [timing.bound for timing in evidence.timings if timing.bound]
    return max(set(said), key=said.count) == "compute" if said else not set(ARITHMETIC).isdisjoint(evidence.families)


def _needs(evidence: Evidence) -> str:
    names = {"registers": "{:.0f} registers", "shared_bytes": "{:.0f} bytes of shared memory", "occupancy": "occupancy {:.0%}"}
    return ", ".join(text.format(evidence.resources[name]) for name, text in names.items() if _number(evidence.resources.get(name)))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def timing(case: str, speedup: float, facts: dict[str, object], least: float | None) -> Timing:
    """A case's timing from its speedup and what is known of it: ``baseline_us``, ``floor_us``, ``bound``."""
    baseline, floor = (
        value if isinstance(value := facts.get(name), int | float) and value > 0 else None for name in ("baseline_us", "floor_us")
    )
    time_us = baseline / speedup if baseline and speedup > 0 else None
    return Timing(case=case, speedup=speedup, time_us=time_us, floor_us=floor, least=least, bound=str(facts.get("bound", "")))


RULES = (at_the_floor, launching, spills, few_warps, single_threaded, scalar_functions, bound, uneven, unmeasured)
