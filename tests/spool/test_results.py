"""Results are believed only where every field can be true and they answer the very round that was sent."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.statistics import Interval
from kevolve.evaluate.timing import Measurement
from kevolve.report.fields import Fields
from kevolve.spool import container, figures, results
from kevolve.spool import round as round_file
from kevolve.spool.container import BadArchive
from kevolve.spool.declared import Declared
from kevolve.spool.results import JobResult, Results
from kevolve.spool.round import Job, ReadRound, Round
from tests.spool.project import DEVICE, environment

DECLARED = Declared(
    module="m", function="test_f", nodeid="m.py::test_f", name="f", hash="h", cases=(("a", '{"values":{},"seed":0}', None),)
)
QUICK, ACCEPT = (Job(kind=kind, language="cpp", source="int x;") for kind in round_file.KINDS)
ASKED = ReadRound(round=Round(declared=DECLARED, target="cpu", jobs=(QUICK, ACCEPT), plan_seed=1), sha256="5" * 64)
MEASURED = Measurement(
    outcome=Outcome(status=Status.PASSED, stage=Stage.PAIRED),
    time_us={"launched": 10.0, "replayed": None},
    baseline_us={"eager": {"launched": 20.0, "replayed": None}},
    speedup={"eager": Interval(estimate=2.0, low=1.9, high=2.1)},
    log_ratios={"eager": (0.69, 0.7)},
    unavailable={"compile": "no compiler"},
    floor_us=4.0,
    speed_of_light=0.4,
    pairs=7,
    verified=3,
    method="pairs",
    samples_s=(1e-5, 1.1e-5),
)
GIVEN = (
    JobResult(
        job=ASKED.round.identities[0],
        outcome=Outcome(status=Status.PASSED, stage=Stage.QUICK, message="2.00x", detail={"speedups": {"a": 2.0}}),
        fitness=2.0,
        seconds=3.0,
    ),
    JobResult(
        job=ASKED.round.identities[1],
        outcome=Outcome(status=Status.PASSED, stage=Stage.PROPERTIES, detail={"draws": 9}),
        seconds=4.0,
        measured={"a": MEASURED},
    ),
)
WHOLE = Results(round=ASKED.sha256, environment=environment(), device=DEVICE, results=GIVEN, facts={"cases": {"a": {"floor_us": 4.0}}})


def refusal(path: Path) -> str:
    with pytest.raises(BadArchive) as caught:
        results.read(path, ASKED)
    return str(caught.value)


def test_results_are_read_as_they_were_packed(tmp_path):
    path = tmp_path / "1.results.zip"
    path.write_bytes(WHOLE.packed())
    assert results.read(path, ASKED) == WHOLE


def test_what_json_has_no_word_for_travels_as_text_and_what_is_too_large_stays_behind():
    detail = {"worst": [{"got": math.nan, "want": (1.0, -math.inf)}], "status": Status.PASSED, "path": Path("a"), "log": "x" * (1 << 20)}
    told = figures.outcome_to_json(Outcome(status=Status.PASSED, stage=Stage.QUICK, message="m" * 70_000, detail=detail))
    assert told["detail"] == {"worst": [{"got": "nan", "want": [1.0, "-inf"]}], "status": "PASSED", "path": "a"}
    assert figures.outcome(Fields(json.loads(json.dumps(told, allow_nan=False)), "outcome")).message == "m" * figures.MOST_TEXT


def edited(tmp_path: Path, *where: str | int, value: object) -> Path:
    """The results with one field replaced; ``...`` takes it away."""
    path = tmp_path / "1.results.zip"
    path.write_bytes(WHOLE.packed())
    manifest = json.loads(container.read(path)[0]["results.json"])
    place = manifest
    for name in where[:-1]:
        place = place[name]
    if value is ...:
        del place[where[-1]]
    else:
        place[where[-1]] = value
    path.write_bytes(container.packed({"results.json": json.dumps(manifest).encode()}))
    return path


FIRST, SECOND = ("results", 0), ("results", 1)
CASE = (*SECOND, "measured", "a")
PLACES = ("results.json.results[0]", "results.json.results[1].measured.a")
KEYS = ASKED.round.identities


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("format",), 9, "expected format 1, got 9: measure with this machine's version of kevolve"),
        (("round",), "6" * 64, "expected the results of round 5555555555555555, got those of 6666666666666666"),
        (("device",), {}, "results.json.device: expected texts, a name among them"),
        (("device", "arch"), 90, "results.json.device: expected texts, a name among them"),
        (("record", "environment", "arch"), ..., "record.environment: expected a field 'arch', got none"),
        (("facts",), [], "results.json.facts: expected an object, got []"),
        ((*FIRST, "job"), "x", "expected one result for each of 2 jobs, got 2 of which 1 were asked for"),
        ((*FIRST, "job"), KEYS[1], "expected one result for each of 2 jobs, got 2 of which 1 were asked for"),
        (("results",), [], "expected one result for each of 2 jobs, got 0 of which 0 were asked for"),
        ((*FIRST, "fitness"), -1, "{0}.fitness: expected a finite number of at least 0, got -1"),
        ((*FIRST, "fitness"), math.nan, "{0}.fitness: expected a finite number of at least 0, got nan"),
        ((*FIRST, "fitness"), True, "{0}.fitness: expected a finite number of at least 0, got True"),
        ((*FIRST, "fitness"), "2", "{0}.fitness: expected a finite number of at least 0, got '2'"),
        ((*FIRST, "fitness"), 0, f"job {KEYS[0]:.8}: expected a quick timing, got PASSED in quick"),
        ((*FIRST, "seconds"), math.inf, "{0}.seconds: expected a finite number of at least 0, got inf"),
        ((*FIRST, "outcome", "status"), "TIMEOUT", "{0}: expected fitness 0 for TIMEOUT, got 2.0"),
        ((*FIRST, "outcome", "stage"), "properties", f"job {KEYS[0]:.8}: expected a quick timing, got PASSED in properties"),
        (
            (*FIRST, "outcome", "message"),
            "x" * 70_000,
            "{0}.outcome.message: expected at most 65536 characters, got 70000",
        ),
        (
            (*FIRST, "outcome", "detail"),
            {"a": "x" * (1 << 20)},
            "{0}.outcome.detail: expected at most 1048576 characters",
        ),
        ((*FIRST, "measured"), {"b": MEASURED}, f"job {KEYS[0]:.8}: expected measurements of cases a"),
        ((*SECOND, "fitness"), 2.0, f"job {KEYS[1]:.8}: expected measurements of a kernel that passed its check, got PASSED"),
        (
            (*SECOND, "outcome", "status"),
            "TIMEOUT",
            f"job {KEYS[1]:.8}: expected measurements of a kernel that passed its check, got TIMEOUT",
        ),
        (
            (*CASE, "speedup", "eager", "low"),
            3.0,
            "{1}.speedup.eager: expected 0 < low <= estimate <= high, got 3.0, 2.0, 2.1",
        ),
        ((*CASE, "speedup"), {}, "{1}: expected a speedup and pairs for a kernel that was timed, got 0, 7"),
        ((*CASE, "samples_s"), ["1"], "{1}.samples_s: expected finite numbers"),
        ((*CASE, "pairs"), 1.5, "{1}.pairs: expected a whole number of at least 0, got 1.5"),
        (
            (*CASE, "time_us", "launched"),
            "fast",
            "{1}.time_us.launched: expected a finite number of at least 0, got 'fast'",
        ),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(tmp_path, where, value, said):
    if isinstance(value, dict):
        value = {name: figures.measurement_to_json(inner) if inner is MEASURED else inner for name, inner in value.items()}
    assert refusal(edited(tmp_path, *where, value=value)) == f"1.results.zip: {said.replace('{0}', PLACES[0]).replace('{1}', PLACES[1])}"


def test_other_members_beside_the_results_are_refused(tmp_path):
    path = tmp_path / "1.results.zip"
    path.write_bytes(container.packed({"results.json": b"{}", "run.sh": b""}))
    assert refusal(path) == "1.results.zip: expected results.json alone, got 'results.json', 'run.sh'"


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{", b"[]", b"\xff"])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    path = tmp_path / "1.results.zip"
    path.write_bytes(container.packed({"results.json": text}))
    assert refusal(path).startswith("1.results.zip: ")
