import json

from kevolve import rows
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.timing import Measurement
from kevolve.report.record import Kernel, Result, Speedup, Times
from kevolve.spec.spec import Case, Work
from kevolve.targets import Peaks


class Spec:
    name, nodeid = "softmax", "test_a.py::test_softmax"

    def least_speedup(self, case):
        return 1.5


def row(outcome, values):
    case = Case(id="1", values=values)
    return rows.result(Spec(), case, target="cpu", language="cpp", measurement=Measurement(outcome=outcome), kernel=None, evaluations=None)


PASSED = Outcome(status=Status.PASSED, stage=Stage.PAIRED)


def test_a_row_holds_the_values_of_its_case_as_json_has_them():
    values = {"rows": 3, "causal": True, "eps": 1e-6, "dtype": "bfloat16", "scale": None, "shape": (1, 2), "limit": float("inf")}
    found = row(PASSED, values).extra["values"]
    assert found == values | {"shape": "(1, 2)", "limit": "inf"}


def test_a_row_of_a_missing_kernel_says_so():
    missing = Outcome(status=Status.NOT_MEASURED, stage=Stage.LOAD, message="no kernel", detail={"kernel": "missing"})
    assert row(missing, {}).extra["kernel_missing"] is True
    assert "kernel_missing" not in row(PASSED, {}).extra


def test_junit_has_every_figure_of_a_row_and_none_that_is_not_there():
    timed = Result(
        spec="softmax",
        case="1",
        target="cpu",
        language="cpp",
        status="TOO_SLOW",
        time_us=Times(launched=2.5, replayed=2.0),
        baseline_us={"eager": Times(launched=5.0)},
        floor_us=1.0,
        speed_of_light=0.4,
        speedup={"eager": Speedup(estimate=2.00004, low=1.9, high=2.1)},
        pairs=7,
        kernel=Kernel(path="kernels/softmax/cpu.cpp", hash="ab"),
        extra={"min_speedup": 2.5},
    )
    assert rows.user_properties(timed) == {
        "status": "TOO_SLOW",
        "target": "cpu",
        "language": "cpp",
        "kernel": "kernels/softmax/cpu.cpp",
        "kernel_sha256": "ab",
        "pairs": 7,
        "floor_us": 1.0,
        "min_speedup": 2.5,
        "time_us": 2.5,
        "time_us_replayed": 2.0,
        "speed_of_light": 0.4,
        "time_us_of_eager": 5.0,
        "speedup_over_eager": 2.0,
        "speedup_over_eager_low": 1.9,
        "speedup_over_eager_high": 2.1,
    }


def test_a_row_says_its_least_work_and_no_operations_that_nobody_counted():
    spec, case = Spec(), Case(id="8", values={})
    counted = Measurement(outcome=PASSED, work=Work(bytes=1024.0, operations=64.0))
    moved = Measurement(outcome=PASSED, work=Work(bytes=1024.0))
    plain = dict(target="cpu", language="cpp", kernel=None, evaluations=None)
    assert rows.result(spec, case, measurement=counted, **plain).extra["work"] == {"bytes": 1024.0, "flops": 64.0}
    assert rows.result(spec, case, measurement=moved, **plain).extra["work"] == {"bytes": 1024.0}
    assert "work" not in rows.result(spec, case, measurement=Measurement(outcome=PASSED), **plain).extra


def test_measured_peaks_are_plain_data_and_unknown_ones_are_left_out():
    measured = Peaks(bandwidth=((1e6, 2e11), (1e9, 1e10)), operations={"float32": 1e12})
    found = rows.peaks(measured)
    assert found == {"bandwidth": [[1e6, 2e11], [1e9, 1e10]], "operations": {"float32": 1e12}}
    assert json.loads(json.dumps(found)) == found
