import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kevolve.publish import publish
from kevolve.report import github
from kevolve.report.record import Environment, Record, Result, read
from kevolve.settings import Settings

RECORD = Record(
    environment=Environment(device="EPYC", arch="a", date="2026-01-01"),
    results=(Result(spec="softmax", case="1", target="cpu", language="cpp", status="PASSED"),),
)


@pytest.fixture(autouse=True)
def page(monkeypatch):
    made = ModuleType("kevolve.report.html")
    made.render = lambda record: f"<!doctype html>{len(record.results)}"
    monkeypatch.setitem(sys.modules, "kevolve.report.html", made)


def test_every_report_and_the_record_are_written(tmp_path):
    reports = tuple(tmp_path / "out" / name for name in ("a.html", "a.json", "a.md"))
    settings = Settings(rootdir=tmp_path, reports=reports, record=tmp_path / "odd.record")
    assert list(publish(RECORD, settings)) == []
    assert reports[0].read_text() == "<!doctype html>1"
    assert read(reports[1]) == read(settings.record) == RECORD
    assert reports[2].read_text().startswith("# kevolve")
    assert not (tmp_path / "reports").exists(), "the latest is left by a search only"


def test_a_search_leaves_the_latest_where_git_does_not_see_it_and_other_records_alone(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    kept = tmp_path / "reports" / "cpu.json"
    kept.parent.mkdir()
    kept.write_text("committed")
    assert list(publish(RECORD, Settings(rootdir=tmp_path, optimise="needed"))) == []
    assert read(tmp_path / "reports" / "latest.json") == RECORD
    assert (tmp_path / "reports" / "latest.html").read_text() == "<!doctype html>1"
    assert kept.read_text() == "committed"
    seen = subprocess.run(["git", "-C", tmp_path, "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True).stdout
    assert seen == "?? reports/cpu.json\n"


def test_a_search_without_results_leaves_the_latest_alone(tmp_path):
    assert list(publish(Record(environment=RECORD.environment), Settings(rootdir=tmp_path, optimise="needed"))) == []
    assert not (tmp_path / "reports").exists()


def test_a_folder_that_says_itself_what_git_ignores_is_believed(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / ".gitignore").write_text("*.html\n")
    list(publish(RECORD, Settings(rootdir=tmp_path, optimise="needed")))
    assert (tmp_path / "reports" / ".gitignore").read_text() == "*.html\n"


def test_what_cannot_be_written_is_a_line_and_the_others_are_written(tmp_path):
    (tmp_path / "file").write_text("")
    settings = Settings(rootdir=tmp_path, reports=(tmp_path / "file" / "a.md", tmp_path / "b.md"))
    (line,) = publish(RECORD, settings)
    assert line.startswith(f"kevolve: cannot write {tmp_path}/file/a.md: ")
    assert (tmp_path / "b.md").exists()


def test_a_summary_is_added_to_what_the_step_wrote_within_the_limit(tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("# Built\n")
    list(publish(RECORD, Settings(rootdir=tmp_path, summary=summary)))
    assert summary.read_text().startswith("# Built\n\n# kevolve\n")
    monkeypatch.setattr(github, "SUMMARY_BYTES", len(summary.read_bytes()) + 10)
    before = summary.read_text()
    list(publish(RECORD, Settings(rootdir=tmp_path, summary=summary)))
    assert summary.read_text() == before, "what does not fit is not begun"
    list(publish(RECORD, Settings(rootdir=tmp_path, summary=Path(tmp_path / "none" / "summary.md"))))
