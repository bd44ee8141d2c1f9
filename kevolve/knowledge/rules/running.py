"""What went wrong while it ran."""

from __future__ import annotations

from kevolve.evaluate.outcome import Stage, Status
from kevolve.knowledge.evidence import Evidence, Finding
from kevolve.knowledge.rules.compiling import first_error

_FAULTS = (
    r"illegal memory access",
    r"illegal address",
    r"misaligned",
    r"SIGSEGV",
    r"SIGBUS",
    r"segmentation fault",
    r"signal 1?1\b",
    r"heap corruption",
    r"SIGABRT",
    r"corrupted",
    r"free\(\)",
    r"munmap_chunk",
    r"double free",
    r"malloc\(\)",
)
_REFUSALS = (r"interpreter", r"CompilationError")


def outside(evidence: Evidence) -> Finding | None:
    """Memory read or written that is none of its own."""
    if evidence.status is not Status.RUNTIME_ERROR or not evidence.says(r"wrote to", *_FAULTS) or writes_inputs(evidence):
        return None
    example = evidence.counterexample
    wrote = evidence.says(r"wrote to [^\n]*")
    where = f" at {example.described}" if example else ""
    return Finding(
        bottleneck="correctness",
        says=f"It reaches outside its memory{where}: " + (wrote.group(0) if wrote else _fault(evidence)),
        words="illegal memory access out of bounds segmentation fault crash missing mask boundary "
        "store load index stride pointer offset overflow int32",
        directions=(
            "Mask (or bound) every load and every store by the size of its own axis; check sizes 0 and 1 and one beyond a block.",
            "Compute addresses from the tensor's strides, in 64 bits where rows times columns may pass 2^31.",
        ),
    )


def writes_inputs(evidence: Evidence) -> Finding | None:
    """An input that it may not write to."""
    wrote = evidence.says(r"wrote to input [^\n]*")
    if evidence.status is not Status.RUNTIME_ERROR or wrote is None or "mutates=" not in wrote.group(0):
        return None
    return Finding(
        bottleneck="correctness",
        says=f"It writes to what it may only read: it {wrote.group(0)}.",
        words="wrote to input in place mutates outputs and strides allocate scratch read only store out of bounds illegal access overlap",
        directions=("Write to an output or to scratch of its own; inputs are read only unless the spec names them in mutates=.",),
    )


def endless(evidence: Evidence) -> Finding | None:
    """No answer in time."""
    if evidence.status is not Status.TIMEOUT or evidence.stage is Stage.COMPILE:
        return None
    example = evidence.counterexample
    return Finding(
        bottleneck="timeout",
        says="It did not end in time" + (f" at {example.described}." if example else "."),
        words="timeout endless infinite loop hang deadlock spin wait barrier lock forward progress slow serial",
        directions=(
            "Look for a loop whose bound does not move (an empty or reversed interval, a size of 0), and for a wait that nobody answers.",
            "Blocks of one grid need not run at the same time: none may wait for another that has not begun.",
        ),
    )


def no_memory(evidence: Evidence) -> Finding | None:
    """More memory than there is."""
    if evidence.status is not Status.RUNTIME_ERROR or not evidence.says(
        r"out of memory", r"bad_alloc", r"MemoryError", r"can't allocate", r"memory limit"
    ):
        return None
    return Finding(
        bottleneck="memory",
        says="It asks for more memory than it may have: " + first_error(evidence),
        words="out of memory scratch workspace allocation intermediate size",
        directions=("Keep intermediates in registers or per block; scratch must not grow with the product of all sizes.",),
    )


def raised(evidence: Evidence) -> Finding | None:
    """An exception of its own wrapper, or of the loader."""
    if evidence.status is not Status.RUNTIME_ERROR or evidence.says(*_FAULTS, r"wrote to", r"out of memory", r"bad_alloc", *_REFUSALS):
        return None
    example = evidence.counterexample
    return Finding(
        bottleneck="correctness",
        says="It raised" + (f" at {example.described}" if example else "") + ": " + first_error(evidence),
        words="runtime error exception raised wrapper entry function arguments dtype shape check empty input zero size unsupported",
        directions=("Accept everything that the spec's domain holds: every dtype, size 0, any strides. Refusing an input is a failure.",),
    )


def _fault(evidence: Evidence) -> str:
    """The line that names the fault."""
    found = evidence.says(*_FAULTS)
    lines = evidence.message.splitlines()
    return next((line.strip()[:300] for line in lines if found and found.group(0) in line), first_error(evidence))


RULES = (writes_inputs, outside, endless, no_memory, raised)
