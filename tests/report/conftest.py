"""One small record with a row of every kind that needs a person."""

import pytest

from kevolve.report.record import Environment, Kernel, Properties, Record, Result, Speedup, Times


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
