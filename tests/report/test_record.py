import dataclasses
import json
from importlib.resources import files
from pathlib import Path

import pytest

from kevolve.evaluate.outcome import Status
from kevolve.report.record import STATUSES, VERDICTS, Kernel, Record, RecordError, Result, Speedup, read, write

jsonschema = pytest.importorskip("jsonschema", reason="records are held against their schema: pip install -e '.[dev]'")

COMMITTED = sorted((Path(__file__).parents[2] / "reports").glob("*.json"))
SCHEMA = json.loads(files("kevolve.report").joinpath("schema.json").read_text())


def test_a_record_written_and_read_is_the_same(record, tmp_path):
    write(record, tmp_path / "reports" / "cpu.json")
    assert read(tmp_path / "reports" / "cpu.json") == record


def test_a_record_of_everything_written_and_read_is_the_same(full, tmp_path):
    write(full, tmp_path / "full.json")
    assert read(tmp_path / "full.json") == full
    (figure,) = json.loads((tmp_path / "full.json").read_text())["gate"][1]["figures"]
    assert str(figure["new"]) == "255", "a count stays a whole number"


def test_parts_that_a_run_does_not_have_are_not_written(record):
    assert list(record.to_json()) == ["version", "environment", "results", "properties"]


def test_a_verdict_fails_the_test_where_it_is_slower_wrong_or_grown(full):
    assert [verdict.failed for verdict in full.gate] == [True, True, False, False]


def test_a_result_row_has_the_fields_that_readers_rely_on(record):
    row = record.to_json()["results"][0]
    assert list(row) == [
        "spec",
        "case",
        "target",
        "language",
        "status",
        "message",
        "time_us",
        "baseline_us",
        "floor_us",
        "speed_of_light",
        "speedup",
        "pairs",
        "method",
        "kernel",
        "evaluations",
    ]
    assert row["time_us"] == {"launched": 18400, "replayed": None}
    assert row["speedup"]["eager"] == {"estimate": 5.1, "low": pytest.approx(4.947), "high": pytest.approx(5.253)}
    assert row["kernel"] == {"path": "suites/kernels/rms_norm/cpu.cpp", "hash": "ab" * 32}


def test_a_record_meets_its_schema(record):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(record.to_json(), SCHEMA)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_a_committed_record_is_a_record_and_meets_the_schema(path):
    assert read(path).results
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)


def test_the_schema_refuses_what_the_reader_refuses(record):
    broken = record.to_json()
    broken["results"][0]["status"] = "FINE"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)
    with pytest.raises(RecordError):
        Record.from_json(broken)


def test_statuses_are_those_of_the_evaluation_and_of_the_schema():
    assert tuple(Status) == STATUSES
    assert tuple(SCHEMA["$defs"]["status"]["enum"]) == STATUSES


def test_the_schema_names_every_field_of_a_row():
    own = {item.name for item in dataclasses.fields(Result)} - {"extra"}
    assert set(SCHEMA["$defs"]["result"]["properties"]) == own


def test_fields_of_a_later_version_survive_a_round_trip(full):
    data = full.to_json()
    data["energy"] = {"joules": 3}
    data["environment"]["rack"] = "b7"
    data["results"][0]["occupancy"] = 0.5
    data["results"][0]["time_us"]["modelled"] = 9.0
    data["results"][0]["kernel"]["lines"] = 80
    data["properties"][0]["shrunk"] = 4
    data["gate"][0]["author"] = "a"
    data["gate"][0]["old"]["tag"] = "v1"
    data["gate"][1]["figures"][0]["unit"] = "registers a thread"
    data["searches"][0]["policy"] = "uct"
    data["searches"][0]["nodes"][1]["family"] = "rows"
    data["searches"][0]["nodes"][1]["usage"]["reasoning"] = 12
    data["environments"][1]["rack"] = "b8"
    assert Record.from_json(data).to_json() == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(version=2), "record.version: expected 1, got 2: it was written by another version of kevolve"),
        (lambda data: data.pop("environment"), "record: expected a field 'environment', got none"),
        (lambda data: data["results"][1].update(spec=7), "record.results[1].spec: expected a string, got 7"),
        (lambda data: data["results"][0].update(pairs=-1), "record.results[0].pairs: expected a whole number of at least 0, got -1"),
        (lambda data: data["results"][0].update(pairs=True), "record.results[0].pairs: expected a whole number of at least 0, got True"),
        (
            lambda data: data["results"][0]["time_us"].update(launched=float("inf")),
            "record.results[0].time_us.launched: expected a finite number of at least 0, got inf",
        ),
        (
            lambda data: data["results"][0]["speedup"]["eager"].update(low=9.0),
            "record.results[0].speedup.eager: expected 0 < low <= estimate <= high, got 9.0, 5.1, 5.253",
        ),
        (lambda data: data.update(results={}), "record.results: expected a list, got {}"),
        (lambda data: data["results"].append("row"), "record.results[5]: expected an object, got 'row'"),
        (lambda data: data["properties"][0].pop("draws"), "record.properties[0]: expected a field 'draws', got none"),
        (
            lambda data: data["gate"][0].update(verdict="fine"),
            f"record.gate[0].verdict: expected one of {', '.join(VERDICTS)}, got 'fine'",
        ),
        (lambda data: data["gate"][0]["old"].pop("hash"), "record.gate[0].old: expected a field 'hash', got none"),
        (
            lambda data: data["gate"][1]["figures"][0].update(allowed="40"),
            "record.gate[1].figures[0].allowed: expected a finite number of at least 0, got '40'",
        ),
        (
            lambda data: data["searches"][0]["nodes"][1].update(parents=["1"]),
            "record.searches[0].nodes[1].parents: expected a list of whole numbers of at least 0, got ['1']",
        ),
        (lambda data: data["sources"].update(a=1), "record.sources.a: expected a string, got 1"),
    ],
)
def test_a_wrong_record_is_refused_by_the_place_and_what_was_expected(full, change, message):
    data = json.loads(json.dumps(full.to_json()))
    change(data)
    with pytest.raises(RecordError) as caught:
        Record.from_json(data)
    assert str(caught.value) == message


def test_a_text_that_is_no_json_is_refused_with_the_file(tmp_path):
    path = tmp_path / "cpu.json"
    path.write_text("spec,case\n")
    with pytest.raises(RecordError, match=r"cpu\.json: expected a run record, got text that is not JSON"):
        read(path)


def test_a_figure_that_is_not_finite_leaves_the_old_record_in_place(record, tmp_path):
    path = tmp_path / "cpu.json"
    write(record, path)
    row = dataclasses.replace(record.results[0], speed_of_light=float("nan"))
    with pytest.raises(ValueError, match="Out of range float"):
        write(dataclasses.replace(record, results=(row,)), path)
    assert read(path) == record
    assert [item.name for item in tmp_path.iterdir()] == ["cpu.json"]


def test_a_row_without_kernel_or_figures_is_a_row():
    data = dict(spec="softmax", case="1", target="cpu", language=None, status="NOT_MEASURED", time_us={}, speedup={"compile": None})
    record = Record.from_json({"version": 1, "environment": dict(device="d", arch="a", date="2026-01-01"), "results": [data]})
    (row,) = record.results
    assert (row.kernel, row.speedup, row.time_us.launched, row.evaluations) == (None, {}, None, None)


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Kernel(path="cpu.cpp").path = "other"
    with pytest.raises(TypeError, match="positional"):
        Speedup(1.0, 0.9, 1.1)
