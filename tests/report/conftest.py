"""One small record with a row of every kind that needs a person, and one with everything that a record can hold."""

from dataclasses import replace

import pytest

from kevolve.report.record import (
    Environment,
    Figure,
    Kernel,
    NodeRow,
    Properties,
    Record,
    Result,
    SearchRow,
    Side,
    Speedup,
    Times,
    Usage,
    Verdict,
)


def result(spec, case, status="PASSED", *, time_us=None, eager=None, compiled=None, light=None, message=""):
    speedups = {"eager": eager, "compile": compiled}
    return Result(
        spec=spec,
        case=case,
        target="cpu",
        language="cpp",
        status=status,
        message=message,
        time_us=Times(launched=time_us),
        speedup={name: Speedup(estimate=value, low=0.97 * value, high=1.03 * value) for name, value in speedups.items() if value},
        floor_us=light and time_us * light,
        speed_of_light=light,
        pairs=7 if time_us else None,
        method="process pairs" if time_us else None,
        kernel=Kernel(path=f"suites/kernels/{spec}/cpu.cpp", hash="ab" * 32),
        evaluations=12,
    )


@pytest.fixture
def record():
    plan = dict(target="cpu", language="cpp", draws=2312, excluded=3)
    return Record(
        environment=Environment(
            device="EPYC 7B13",
            arch="x86-64-v3",
            date="2026-01-02T03:04:05Z",
            versions={"kevolve": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
            toolchain={"cpp": {"g++": "12.2.0"}},
            isolation={"network": "own namespace"},
            commit="c0ffee",
        ),
        results=(
            result("rms_norm", "bfloat16-8192-4096", time_us=18400, eager=5.1, compiled=2.313, light=0.61),
            result("batch_event_truncate", "int64-1024-200-9", time_us=184, eager=50.1, compiled=12.313, light=0.31),
            result(
                "rms_norm",
                "float32-1",
                "TOO_SLOW",
                time_us=2.34,
                eager=0.9,
                compiled=0.8,
                light=0.1,
                message="0.90x over eager, expected at least 1.20x",
            ),
            result("softmax", "float32-1", "NOT_MEASURED", message="two workers share the cores (-n2): run with -n0 to time kernels here"),
            result("softmax", "float32-2", "NOT_MEASURED", message="two workers share the cores (-n2): run with -n0 to time kernels here"),
        ),
        properties=(
            Properties(spec="rms_norm", status="PASSED", **plan),
            Properties(spec="softmax", status="INCORRECT_NUMERICAL", message="3 of 64 elements differ\nworst: …", **plan),
        ),
    )


def verdict(spec, case, said, message="", *, old_us=None, new_us=None, ratio=None, figures=()):
    old = Side(path=f"kernels/{spec}/cpu.cpp", hash="cd" * 32, revision="c0ffee", time_us=old_us)
    new = Side(path=f"kernels/{spec}/cpu.cpp", hash="ab" * 32, time_us=new_us)
    return Verdict(
        spec=spec,
        case=case,
        target="cpu",
        language="cpp",
        verdict=said,
        message=message,
        old=None if said == "new" else old,
        new=None if said == "removed" else new,
        ratio=ratio and Speedup(estimate=ratio, low=0.99 * ratio, high=1.01 * ratio),
        figures=figures,
    )


@pytest.fixture
def full(record):
    """Everything that a record can hold."""
    spilled = Figure(name="registers", where="sm90 softmax_kernel[fp16]", old=32, new=255, allowed=40)
    first = NodeRow(id=1, step=1, operator="samples", idea="one pass", status="PASSED", fitness=1.5, seconds=3.25, source="ab" * 32)
    asked = Usage(input=1200, cached=800, output=300, usd=0.0125)
    second = NodeRow(
        id=2,
        step=2,
        parents=(1,),
        operator="model",
        model="recorded:one",
        idea="two rows a warp",
        hypothesis="fewer launches",
        status="COMPILE_ERROR",
        message="line 3: no such name",
        source="ef" * 32,
        prompt="12" * 32,
        usage=asked,
    )
    environments = (record.environment, replace(record.environment, device="H200", arch="sm90", date="2026-01-03T03:04:05Z"))
    return replace(
        record,
        gate=(
            verdict("rms_norm", "float32-1", "slower", "1.12x slower", old_us=38.1, new_us=42.7, ratio=0.892),
            verdict("softmax", "", "grown", "registers 32 to 255", figures=(spilled,)),
            verdict("swiglu", "", "new"),
            verdict("gelu", "", "removed"),
        ),
        searches=(SearchRow(spec="rms_norm", target="cpu", best=1, nodes=(first, second)),),
        sources={"ab" * 32: "int one;\n", "ef" * 32: "int two;\n"},
        prompts={"12" * 32: "write a kernel"},
        environments=environments,
    )
