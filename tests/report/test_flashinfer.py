import json
import uuid
from dataclasses import replace

import pytest

from kevolve.report.flashinfer import STATUSES, lines, trace
from kevolve.report.record import STATUSES as OURS
from kevolve.report.record import Record, Times


@pytest.fixture
def row(record):
    values = {"rows": 8192, "cols": 4096, "dtype": "bfloat16", "eps": 1e-6, "causal": True, "shape": [1, 2]}
    timed = replace(record.results[0], baseline_us={"eager": Times(launched=93840.0)})
    return replace(timed, extra={"values": values, "test": "suites/test_norms.py::test_rms_norm", "min_speedup": 1.5})


def test_a_passed_result_is_a_trace_with_definition_workload_solution_and_evaluation(record, row):
    found = trace(row, record.environment)
    assert {name: found[name] for name in ("definition", "solution")} == {
        "definition": "rms_norm",
        "solution": "suites/kernels/rms_norm/cpu.cpp@abababababab",
    }
    assert found["workload"]["axes"] == {"rows": 8192, "cols": 4096}
    assert found["workload"]["inputs"] == {"eps": {"type": "scalar", "value": 1e-6}, "causal": {"type": "scalar", "value": True}}
    assert uuid.UUID(found["workload"]["uuid"])
    evaluation = found["evaluation"]
    assert evaluation["status"] == "PASSED"
    assert evaluation["environment"] == {"hardware": "EPYC 7B13", "libs": {"kevolve": "0.1.0", "torch": "2.13.0", "python": "3.11.7"}}
    assert evaluation["timestamp"] == "2026-01-02T03:04:05Z"
    assert evaluation["performance"] == {"latency_ms": 18.4, "reference_latency_ms": 93.84, "speedup_factor": 5.1}


def test_errors_that_are_not_in_a_record_are_unknown_and_not_zero(record, row):
    correctness = trace(row, record.environment)["evaluation"]["correctness"]
    assert correctness["max_relative_error"] == correctness["max_absolute_error"] == "NaN"
    assert "float64 oracle" in correctness["extra"]["method"]


def test_nothing_of_the_row_is_lost(record, row):
    data = {
        "version": 1,
        "environment": {"device": "d", "arch": "a", "date": "2026"},
        "results": [trace(row, record.environment)["kevolve"]],
    }
    assert Record.from_json(data).results == (row,)


@pytest.mark.parametrize("status", OURS)
def test_correctness_and_performance_are_there_just_where_the_status_asks_for_them(record, row, status):
    found = trace(replace(row, status=status), record.environment)
    evaluation = found["evaluation"]
    if status in ("REWARD_HACK", "SUSPECT", "NOT_MEASURED", "NO_CANDIDATE"):
        assert evaluation is None, "their words have none for it: a workload trace"
        assert found["solution"] is None
        assert found["kevolve"]["status"] == status
        return
    assert evaluation["status"] in STATUSES
    assert (evaluation["correctness"] is not None) == (evaluation["status"] in ("PASSED", "INCORRECT_NUMERICAL"))
    assert (evaluation["performance"] is not None) == (evaluation["status"] == "PASSED")


def test_a_slow_kernel_has_passed_in_their_words_and_is_slow_in_ours(record, row):
    found = trace(replace(row, status="TOO_SLOW"), record.environment)
    assert (found["evaluation"]["status"], found["kevolve"]["status"]) == ("PASSED", "TOO_SLOW")


def test_a_workload_has_one_identity_over_kernels_and_runs_and_another_than_other_cases(record, row):
    first, again, other = row, replace(row, kernel=None, status="TIMEOUT"), replace(row, case="other")
    ids = [trace(one, record.environment)["workload"]["uuid"] for one in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]


def test_every_result_is_a_line_of_json(record):
    found = [json.loads(line) for line in lines(record)]
    assert [one["kevolve"]["case"] for one in found] == [row.case for row in record.results]
    assert {"definition", "workload", "solution", "evaluation"} <= set(found[0])
    assert {"axes", "inputs", "uuid"} == set(found[0]["workload"])
