"""A measuring that is killed goes on where it was, and two never write to one journal."""

from __future__ import annotations

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.spool import SpoolError
from kevolve.spool.journal import Journal
from kevolve.spool.results import JobResult

ROUND = dict(round_sha256="5" * 64, device="a device")


def result(job: str) -> JobResult:
    return JobResult(job=job, outcome=Outcome(status=Status.PASSED, stage=Stage.QUICK), fitness=2.0, seconds=1.0)


@pytest.mark.parametrize("torn", ["", '{"job": "c", "out', '{"round"'])
def test_what_was_added_is_there_again_whatever_a_kill_tore(tmp_path, torn):
    path = tmp_path / "1.journal.jsonl"
    with Journal(path, **ROUND) as journal:
        journal.add(result("a"))
        journal.add(result("b"))
    with path.open("a") as file:
        file.write(torn)
    with Journal(path, **ROUND) as journal:
        assert journal.results == {"a": result("a"), "b": result("b")}
        journal.add(result("c"))
    with Journal(path, **ROUND) as journal:
        assert list(journal.results) == ["a", "b", "c"]
        journal.remove()
    assert not path.exists()


def test_a_kill_before_the_first_line_was_whole_begins_anew(tmp_path):
    path = tmp_path / "1.journal.jsonl"
    path.write_text('{"round": "55')
    with Journal(path, **ROUND) as journal:
        assert journal.results == {}
        journal.add(result("a"))
    with Journal(path, **ROUND) as journal:
        assert list(journal.results) == ["a"]


@pytest.mark.parametrize("other", [{"round_sha256": "6" * 64}, {"device": "another device"}])
def test_a_journal_of_another_round_or_device_is_left_alone(tmp_path, other):
    path = tmp_path / "1.journal.jsonl"
    with Journal(path, **ROUND):
        before = path.read_text()
    with pytest.raises(SpoolError, match="move it aside to begin anew"):
        Journal(path, **ROUND | other)
    assert path.read_text() == before


def test_two_processes_do_not_work_on_one_round(tmp_path):
    path = tmp_path / "1.journal.jsonl"
    with Journal(path, **ROUND), pytest.raises(SpoolError) as caught:
        Journal(path, **ROUND)
    assert str(caught.value) == f"{path}: another process works on this round; wait for it, or end it"


def test_a_damaged_journal_is_told_and_left_alone(tmp_path):
    path = tmp_path / "1.journal.jsonl"
    with Journal(path, **ROUND) as journal:
        journal.add(result("a"))
    path.write_text(path.read_text().replace('"fitness": 2.0', '"fitness": -2.0'))
    with pytest.raises(SpoolError, match="is damaged"):
        Journal(path, **ROUND)
