"""The waiting side: what is sent, what is found again after a kill, what is believed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kevolve import spool as package
from kevolve.evaluate.outcome import Status
from kevolve.settings import Settings
from kevolve.spool import SpoolError
from kevolve.spool.shelf import Sent, Shelf
from kevolve.spool.spool import Spool
from tests.spool.project import BROKEN, CASES, NORMALISE, WRONG, answer, proposal

OTHER_DEVICE = {"name": "another device", "arch": "a1"}


class Desk:
    """A spool whose sleeping is where the other machine gets its turn. ``said``: every line; ``now``: seconds."""

    def __init__(self, folder: Path, spec) -> None:
        self.folder, self.spec = folder, spec
        self.said: list[str] = []
        self.turns: list[Callable[[], None]] = []
        self.now = time.time()

    def spool(self, **given) -> Spool:
        clock = dict(sleep=self.sleep, monotonic=lambda: self.now, now=lambda: self.now)
        values = dict(spec=self.spec, cases=CASES, target="cpu", plan_seed=5, say=self.said.append, **clock)
        return Spool(self.folder, **values | given)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.turns:
            self.turns.pop(0)()

    def waiting(self) -> list[Sent]:
        return list(Shelf(self.folder).rounds(done=False))

    def answer(self, **given) -> None:
        for sent in self.waiting():
            answer(sent, **given)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def desk(tmp_path, spec):
    return Desk(tmp_path / "there", spec)


def killed() -> None:
    raise KeyboardInterrupt


def test_a_round_is_left_and_its_results_are_the_candidates(desk):
    desk.turns = [lambda: desk.answer(statuses={WRONG: Status.INCORRECT_NUMERICAL})]
    found = list(desk.spool()([proposal(NORMALISE), proposal(WRONG)]))
    assert [(each.proposal.source, each.fitness, each.seconds) for each in found] == [(NORMALISE, len(NORMALISE), 1.5), (WRONG, 0.0, 1.5)]
    assert found[1].outcome.status is Status.INCORRECT_NUMERICAL
    (line,) = desk.said
    assert line == (
        f"kevolve: normalise: 2 candidates in {desk.folder}/0001-normalise.round.zip; where the device is: "
        "kevolve evaluate 0001-normalise.round.zip, then bring 0001-normalise.results.zip back beside it"
    )
    assert desk.files() == ["device.json", "done/0001-normalise.results.zip", "done/0001-normalise.round.zip"]


def test_a_search_that_is_killed_while_it_waits_finds_its_round_again(desk):
    desk.turns = [killed]
    with pytest.raises(KeyboardInterrupt):
        list(desk.spool()([proposal(NORMALISE), proposal(WRONG)]))
    assert desk.files() == ["0001-normalise.round.zip"]
    desk.turns = [desk.answer]
    found = list(desk.spool(plan_seed=99)([proposal(NORMALISE), proposal(WRONG), proposal(BROKEN)]))
    assert len(found) == 3
    assert [name for name in desk.files() if "round" in name] == ["done/0001-normalise.round.zip", "done/0002-normalise.round.zip"]


def test_a_search_that_is_killed_between_two_results_gets_the_rest_and_nothing_is_measured_twice(desk):
    desk.turns = [desk.answer]
    first = desk.spool()([proposal(NORMALISE), proposal(WRONG)])
    assert next(first).proposal.source == NORMALISE
    first.close()
    found = list(desk.spool()([proposal(WRONG)]))
    assert [each.proposal.source for each in found] == [WRONG]
    assert [name for name in desk.files() if "round" in name] == ["done/0001-normalise.round.zip"]
    assert len(desk.said) == 1


def test_a_search_that_stops_at_the_last_result_leaves_no_round_behind(desk):
    desk.turns = [desk.answer]
    results = desk.spool()([proposal(NORMALISE)])
    next(results)
    results.close()
    assert desk.files() == ["device.json", "done/0001-normalise.results.zip", "done/0001-normalise.round.zip"]


def test_what_was_taken_by_a_search_that_then_lost_it_is_not_measured_again(desk):
    desk.turns = [desk.answer]
    list(desk.spool()([proposal(NORMALISE)]))
    found = list(desk.spool()([proposal(NORMALISE)]))
    assert [each.fitness for each in found] == [len(NORMALISE)]
    assert desk.files().count("done/0002-normalise.round.zip") == 0


def test_a_candidate_that_ran_out_of_time_may_be_sent_again(desk):
    desk.turns = [lambda: desk.answer(statuses={NORMALISE: Status.TIMEOUT}), desk.answer]
    spool = desk.spool()
    assert [each.outcome.status for each in spool([proposal()])] == [Status.TIMEOUT]
    assert [each.outcome.status for each in desk.spool()([proposal()])] == [Status.PASSED]


def test_two_proposals_of_one_text_are_one_job_and_two_results(desk):
    desk.turns = [desk.answer]
    found = list(desk.spool()([proposal(idea="a"), proposal(idea="b")]))
    assert [each.proposal.idea for each in found] == ["a", "b"]


def test_another_specs_rounds_are_none_of_ours(desk, tmp_path):
    desk.turns = [killed]
    with pytest.raises(KeyboardInterrupt):
        list(desk.spool(target="other")([proposal()]))
    desk.turns = [desk.answer]
    assert len(list(desk.spool()([proposal()]))) == 1
    assert "0001-normalise.round.zip" in desk.files()


def test_acceptance_is_a_job_of_its_own(desk):
    desk.turns = [desk.answer, desk.answer]
    spool = desk.spool()
    list(spool([proposal()]))
    (graded,) = spool.accept([proposal()])
    assert (graded.failure, graded.checked.stage, graded.environment.device) == (None, "properties", "a device")
    assert desk.said[1].startswith(
        f"kevolve: normalise: 1 kernel to accept in {desk.folder}/0002-normalise.round.zip; where the device is: "
    )


def test_the_device_is_known_from_earlier_results_else_it_is_asked_for(desk):
    desk.turns = [desk.answer]
    assert desk.spool().device() == {"name": "a device", "arch": "a1"}
    assert desk.said[0].startswith("kevolve: normalise: a question about the device in ")
    assert desk.spool().device()["name"] == "a device"
    assert desk.spool().facts() == {}
    assert len(desk.said) == 1


def test_results_of_another_device_are_refused_and_awaited_from_the_right_one(desk):
    desk.turns = [desk.answer]
    list(desk.spool()([proposal()]))
    desk.said.clear()
    desk.turns = [lambda: desk.answer(device=OTHER_DEVICE), *[lambda: None] * 30, desk.answer]
    desk.now += 60.0
    assert [each.fitness for each in desk.spool()([proposal(WRONG)])] == [len(WRONG)]
    (line,) = desk.said[1:]
    assert line == (
        "kevolve: results refused: 0002-normalise.results.zip: measured on another device, the results before on a device: they do not "
        "compare; measure there, or search with another folder; put the right ones there, the search goes on waiting"
    )


def test_half_a_file_is_still_being_copied_and_is_told_only_when_it_stays_so(desk):
    def half() -> None:
        desk.answer()
        (sent,) = desk.waiting()
        whole = sent.results.read_bytes()
        sent.results.write_bytes(whole[:-9])
        desk.now = sent.results.stat().st_mtime

    desk.turns = [half, *[lambda: None] * 5, desk.answer]
    assert len(list(desk.spool()([proposal()]))) == 1
    assert len(desk.said) == 1
    desk.turns = [half, *[lambda: None] * 40, desk.answer]
    assert len(list(desk.spool()([proposal(WRONG)]))) == 1
    assert [line.partition(" (")[0] for line in desk.said[2:]] == [
        "kevolve: results refused: 0002-normalise.results.zip: expected a zip archive of kevolve's, got something else or a part of one"
    ]


def test_the_results_of_another_round_are_not_believed(desk):
    desk.turns = [desk.answer]
    list(desk.spool()([proposal()]))
    old = (desk.folder / "done" / "0001-normalise.results.zip").read_bytes()
    desk.turns = [lambda: (desk.folder / "0002-normalise.results.zip").write_bytes(old), *[lambda: None] * 20, desk.answer]
    desk.now += 60.0
    assert [each.fitness for each in desk.spool()([proposal(WRONG)])] == [len(WRONG)]
    assert "expected the results of round " in desk.said[-1]


def test_patience_has_an_end_where_one_was_set(desk):
    with pytest.raises(SpoolError, match=r"no results of .*/0001-normalise\.round\.zip after 31 s; the round stays there"):
        list(desk.spool(patience_s=30.0)([proposal()]))
    assert desk.files() == ["0001-normalise.round.zip"]


def test_a_long_wait_is_told_now_and_then(desk):
    desk.turns = [*[lambda: None] * 1250, desk.answer]
    list(desk.spool()([proposal()]))
    assert desk.said[1:] == [
        "kevolve: still waiting for 0001-normalise.results.zip (10 min 01 s)",
        "kevolve: still waiting for 0001-normalise.results.zip (20 min 02 s)",
    ]


def test_a_folder_that_holds_other_things_is_no_hindrance(desk):
    desk.folder.mkdir()
    (desk.folder / "0007-notes.round.zip").write_text("mine")
    (desk.folder / "readme").write_text("mine")
    desk.turns = [desk.answer]
    list(desk.spool()([proposal()]))
    assert "done/0008-normalise.round.zip" in desk.files()
    assert (desk.folder / "0007-notes.round.zip").read_text() == "mine"


def test_the_option_names_a_folder_below_the_rootdir(tmp_path, spec):
    made = package.evaluator(
        Settings(rootdir=tmp_path, evaluator="spool:there"), spec=spec, cases=CASES, plan_seed=1, say=lambda line: None
    )
    assert isinstance(made, Spool)
    assert (tmp_path / "there" / "done").is_dir()


@pytest.mark.parametrize("given", ["spool:", "ssh:there", "there"])
def test_an_evaluator_that_is_no_spool_is_refused(tmp_path, given):
    with pytest.raises(SpoolError) as caught:
        package.folder_of(Settings(rootdir=tmp_path, evaluator=given))
    assert str(caught.value) == f"--kevolve-evaluator: expected spool:DIR, got {given!r}"
    assert package.folder_of(Settings(rootdir=tmp_path)) is None


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "there").write_text("a file")
    with pytest.raises(SpoolError) as caught:
        Shelf(tmp_path / "there")
    assert str(caught.value) == f"--kevolve-evaluator: cannot write {tmp_path / 'there'}: Not a directory"


def test_a_damaged_note_of_the_device_is_told(desk):
    desk.folder.mkdir()
    (desk.folder / "device.json").write_text(json.dumps(["x"]))
    with pytest.raises(SpoolError, match=r"expected .* got something else .*; delete it"):
        desk.spool().device()
