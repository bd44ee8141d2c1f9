"""What the compiler refused."""

from __future__ import annotations

from kevolve.evaluate.outcome import Stage, Status
from kevolve.knowledge.evidence import Evidence, Finding, telling_line


def out_of_shared_memory(evidence: Evidence) -> Finding | None:
    """More shared memory than a block may have."""
    if not evidence.says(
        r"OutOfResources.*shared memory", r"out of resource: shared memory", r"uses too much shared data", r"shared memory, \w+ has"
    ):
        return None
    found = evidence.says(r"needs (\d+) bytes of shared memory, (\w+) has (\d+)", r"Required: (\d+), Hardware limit: (\d+)")
    figures = f" ({found.group(0)})" if found else ""
    return Finding(
        bottleneck="shared-memory",
        says=f"A block wants more shared memory than the device has{figures}.",
        words="out of resources shared memory limit block size tile stages num_stages pipelining too large",
        directions=(
            "Lower num_stages first: every stage holds another copy of both operands' tiles.",
            "Halve the tile along the reduction axis (BLOCK_K), then the larger of the other two.",
            "Keep one operand in registers, or give the autotuner only configurations that fit.",
        ),
    )


def out_of_registers(evidence: Evidence) -> Finding | None:
    """A launch that the registers do not allow, or a tensor too large to be held."""
    if not evidence.says(
        r"too many resources requested",
        r"out of resource: registers",
        r"numel \(\d+\) exceeds",
        r"maximum tensor numel",
        r"out of resource: threads",
    ):
        return None
    return Finding(
        bottleneck="registers",
        says="A block wants more registers (or a larger tensor) than there is: " + first_error(evidence),
        words="out of resources registers tile too large maximum numel loop over blocks num_warps",
        directions=(
            "Loop over the row in blocks of 1024 to 8192 elements instead of holding all of it.",
            "More warps (num_warps) spread the same tile over more registers.",
        ),
    )


def compiler_timed_out(evidence: Evidence) -> Finding | None:
    """A compilation that does not end."""
    if evidence.stage is not Stage.COMPILE or not (evidence.status is Status.TIMEOUT or evidence.says("compiler did not end")):
        return None
    return Finding(
        bottleneck="timeout",
        says="Compiling did not end in time.",
        words="compile time timeout unrolling static_range template instantiation too many configurations",
        directions=(
            "Unroll less: a loop over a constant of hundreds is a loop, not straight-line code.",
            "Try fewer configurations at once.",
        ),
    )


def undeclared(evidence: Evidence) -> Finding | None:
    """A name that nothing defines: most often a header, an import or a parameter that is missing."""
    found = evidence.says(
        r"['‘`](\S+)['’`] (?:was not declared|is not a member|has not been declared|does not name a type)",
        r"use of undeclared identifier '(\w+)'",
        r"NameError[^\n]*['\"](\w+)['\"]",
        r"name '(\w+)' is not defined",
        r"has no attribute '(\w+)'",
        r"(\w+) is not defined",
        r"Cannot access global variable (\w+)",
    )
    if not _refused(evidence) or found is None:
        return None
    name = found.group(1)
    return Finding(
        bottleneck="compile",
        says=f"The name `{name}` is not defined: " + first_error(evidence),
        words=f"compile error undeclared undefined name missing include header import constexpr global attribute {name}",
        directions=(
            f"Define `{name}`, or include or import what does; check the spelling against the language's reference.",
            "In a Triton kernel a global must be a tl.constexpr, and only triton.language's own functions exist.",
        )[: 1 if evidence.is_native else 2],
    )


def mismatched(evidence: Evidence) -> Finding | None:
    """Types or shapes that do not fit."""
    if not _refused(evidence) or not evidence.says(*_MISMATCHES):
        return None
    return Finding(
        bottleneck="compile",
        says="Types or shapes do not fit: " + first_error(evidence),
        words="compile error type mismatch conversion cast broadcast shape incompatible power of 2 arange loop-carried pointer constexpr",
        directions=(
            "Give every loop-carried value its final type and shape before the loop (tl.zeros with the dtype), and cast explicitly.",
            "Sizes of tl.arange are constexpr powers of two: pass the next power of two and mask the rest.",
        )
        if not evidence.is_native
        else ("Convert explicitly at the named line; template arguments that differ only in constness or width need a cast.",),
    )


_MISMATCHES = (
    r"cannot convert",
    r"invalid conversion",
    r"no matching function",
    r"no match for",
    r"could not convert",
    r"no viable",
    r"invalid operands",
    r"incompatible (?:types|dimensions|shapes)",
    r"cannot broadcast",
    r"make_shape_compatible",
    r"must be a power of 2",
    r"power of two",
    r"Mismatched type",
    r"loop-carried variable",
    r"IncompatibleTypeError",
    r"TypeError",
    r"type mismatch",
    r"unsupported ptr type",
    r"must be .*constexpr",
    r"Shapes? .* (?:incompatible|mismatch)",
    r"Both operands must be same dtype",
    r"expected .* got ",
    r"All non-scalar operands must have",
    r"narrowing",
)


def refused(evidence: Evidence) -> Finding | None:
    """Any other complaint of a compiler or of the parser."""
    if not _refused(evidence) or evidence.says("compiler did not end"):
        return None
    if any(rule(evidence) for rule in (out_of_shared_memory, out_of_registers, undeclared, mismatched)):
        return None
    if evidence.says(r"no entry"):
        return Finding(
            bottleneck="compile",
            says="It has no entry function: " + first_error(evidence),
            words="basics entry function export name signature arguments returns wrapper interface",
            directions=("Name the entry function as the spec is named, at the top level (exported where it is compiled).",),
        )
    syntax = evidence.stage is Stage.PARSE or evidence.says(
        r"SyntaxError", r"expected ['‘][^'’]+['’] before", r"expected primary-expression"
    )
    return Finding(
        bottleneck="compile",
        says=("It does not parse: " if syntax else "The compiler refused it: ") + first_error(evidence),
        words="compile error "
        + ("syntax parse entry function export brackets signature" if syntax else "unsupported operation lowering backend"),
        directions=("Mend the first error only and compile again: the others mostly follow from it.",),
    )


def _refused(evidence: Evidence) -> bool:
    """A compiler's refusal; Triton's interpreter meets the same mistakes when it runs."""
    return evidence.status is Status.COMPILE_ERROR or (
        evidence.status is Status.RUNTIME_ERROR and bool(evidence.says("interpreter.py", "InterpreterError"))
    )


def first_error(evidence: Evidence) -> str:
    """The line that says what is wrong."""
    return telling_line(evidence.message)


RULES = (compiler_timed_out, out_of_shared_memory, out_of_registers, undeclared, mismatched, refused)
