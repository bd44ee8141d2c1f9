"""``kevolve report``: records in, files out."""

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import pytest

from kevolve import cli
from kevolve.report.record import Environment, Record, Result, Speedup, Times, read, write
from kevolve.report.writing import FORMS


@pytest.fixture
def records(tmp_path):
    row = Result(
        spec="rms_norm",
        case="8192-4096",
        target="cpu",
        language="cpp",
        status="PASSED",
        time_us=Times(launched=184.0),
        speedup={"eager": Speedup(estimate=2.0, low=1.9, high=2.1)},
    )
    paths = []
    for device in ("EPYC", "H200"):
        paths.append(tmp_path / f"{device}.json")
        write(Record(environment=Environment(device=device, arch="a", date="2026-01-02"), results=(row,)), paths[-1])
    return paths


@pytest.fixture
def pages(monkeypatch):
    """What was rendered as HTML, in place of the page."""
    seen = []
    page = ModuleType("kevolve.report.html")
    page.render = lambda record: seen.append(record) or "<!doctype html>"
    monkeypatch.setitem(sys.modules, "kevolve.report.html", page)
    return seen


def run(*arguments):
    return cli.main(["report", *map(str, arguments)])


def test_records_of_two_machines_become_files_of_each_kind(records, pages, tmp_path, capsys):
    out = [tmp_path / "new" / name for name in ("all.html", "all.json", "all.md")]
    assert run(*records, *(part for path in out for part in ("--out", path))) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote {path}" for path in out]
    merged = read(out[1])
    assert [place.device for place in merged.environments] == ["H200", "EPYC"]
    assert pages == [merged]
    assert out[0].read_text() == "<!doctype html>"
    assert out[2].read_text().startswith("# kevolve\n\n**Nothing failed: 2 cases**")


def test_without_a_file_the_table_is_shown(records, capsys):
    assert run(records[0]) == 0
    assert "2.00x [1.90, 2.10]" in capsys.readouterr().out


def test_results_are_exported_as_traces_of_flashinfer_bench(records, capsys):
    assert run(*records, "--as", "flashinfer-trace") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["evaluation"]["environment"]["hardware"] for one in found] == ["H200", "EPYC"]


@pytest.mark.parametrize(
    ("form", "start"), [("gitlab-note", "<!-- kevolve -->\n# kevolve"), ("github-summary", "# kevolve"), ("json", "{")]
)
def test_the_form_may_be_named_whatever_the_suffix(records, tmp_path, form, start):
    assert run(records[0], "--as", form, "--out", tmp_path / "body.txt") == 0
    assert (tmp_path / "body.txt").read_text().startswith(start)


def test_an_unknown_suffix_is_a_usage_error_that_names_the_three(records, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(records[0], "--out", "report.pdf")
    assert stopped.value.code == 2
    assert "--out: expected a file ending in .html, .json or .md, got 'report.pdf'" in capsys.readouterr().err


def test_what_is_no_record_is_told_with_its_file(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text("{}")
    assert run(path) == 1
    assert f"kevolve report: {path}: record: expected a field 'version', got none" in capsys.readouterr().err


def test_a_missing_record_and_a_folder_that_cannot_be_written_are_told(records, tmp_path, capsys):
    assert run(tmp_path / "none.json") == 1
    assert "none.json" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(records[0], "--out", tmp_path / "file" / "a.md") == 1
    assert "kevolve report: " in capsys.readouterr().err


def test_two_dates_of_one_machine_are_a_history(records, tmp_path):
    later = read(records[0])
    write(replace(later, environment=replace(later.environment, date="2026-02-02")), records[1])
    assert run(*records, "--out", tmp_path / "both.json") == 0
    assert [row.extra.get("environment", 0) for row in read(Path(tmp_path / "both.json")).results] == [0, 1]


def test_the_documentation_names_every_form_and_every_part_of_a_record():
    text = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()
    assert [form for form in FORMS if form not in text] == []
    parts = {item.name for item in fields(Record)} - {"extra"}
    assert [part for part in parts if f"`{part}`" not in text] == []
