"""A search in one process, `kevolve evaluate` in another, either killed in the middle: everything is measured, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kevolve import cli
from kevolve.commands import evaluate
from kevolve.spool import round as round_file
from kevolve.spool.declared import declare
from kevolve.spool.round import Job, Round
from kevolve.spool.shelf import Sent
from tests.spool.project import BROKEN, CASES, answer, write

ROOT = Path(__file__).parents[2]
SEARCH = """
import importlib, sys
from pathlib import Path
sys.path.insert(0, ".")
from kevolve.search.node import Proposal
from kevolve.spool.spool import Spool
from kevolve.store.graph_store import GraphStore
from tests.spool.project import BROKEN, CASES, NORMALISE, WRONG, build

spec = build()
with GraphStore(Path("graph")) as store:
    run = store.start_run(arguments=[], environment={})
    spool = Spool(Path("there"), spec=spec, cases=CASES, target="cpu", plan_seed=5, say=lambda line: print(line, flush=True))
    known = {node.proposal.source for node in store.nodes(spec.nodeid, "cpu")}
    texts = {"broken": BROKEN, "wrong": WRONG, "right": NORMALISE}
    wanted = [Proposal(language="cpp", source=text, operator="x", idea=name) for name, text in texts.items() if text not in known]
    for found in spool(wanted):
        node = store.add(run=run, spec=spec.nodeid, spec_hash=spec.hash, target="cpu", proposal=found.proposal, outcome=found.outcome,
                         normal_hash=found.proposal.idea, fitness=found.fitness, seconds=found.seconds)
        print(node.id, node.proposal.idea, f"{node.outcome.stage}:{node.outcome.status}", flush=True)
    for graded in spool.accept([Proposal(language="cpp", source=WRONG, operator="x", idea="wrong")]):
        print("accepted", graded.failure.status, flush=True)
"""
COMMAND = [sys.executable, "-c", "import sys; from kevolve.cli import main; sys.exit(main())"]


class Machines:
    """The two machines: ``folder`` is the searching one's, ``elsewhere`` knows only archives."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.there, self.elsewhere = folder, folder / "there", folder / "elsewhere"
        self.elsewhere.mkdir()
        self._running: list[subprocess.Popen[str]] = []
        write(folder)

    def start(self, *command: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
        # what each prints goes to a file: a process that nobody reads from must not wait
        log = (self.folder / f"log-{len(self._running)}").open("w+")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([*map(str, command)], cwd=cwd or self.folder, env=environment, stdout=log, stderr=log, text=True)
        process.log = log  # type: ignore[attr-defined]
        self._running.append(process)
        return process

    def search(self) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-c", SEARCH)

    def evaluate(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return self.start(*COMMAND, "evaluate", *arguments, cwd=self.elsewhere)

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@pytest.fixture
def machines(tmp_path: Path):
    made = Machines(tmp_path)
    yield made
    made.end()


def said(process: subprocess.Popen[str]) -> str:
    """What a process has printed, once it has ended."""
    process.wait(timeout=120)
    return Path(process.log.name).read_text()  # type: ignore[attr-defined]


def until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is there; the process that makes it must not end before."""
    deadline = time.monotonic() + 100
    while not there():
        assert process.poll() is None or there(), Path(process.log.name).read_text()  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_search_and_a_measuring_that_are_both_killed_lose_nothing_and_measure_nothing_twice(machines: Machines) -> None:
    search = machines.search()
    first = machines.there / "0001-normalise.round.zip"
    until(first.exists, search)
    search.kill()
    journal = machines.there / "0001-normalise.journal.jsonl"
    measuring = machines.evaluate(first)
    until(lambda: journal.exists() and journal.read_text().count("\n") >= 2, measuring)
    measuring.kill()
    measuring.wait()
    kept = {json.loads(line)["job"] for line in journal.read_text().splitlines()[1:]}
    assert 1 <= len(kept) < 3
    search = machines.search()
    again = machines.evaluate(first)
    text = said(again)
    assert again.returncode == 0, text
    assert f"3 jobs, {len(kept)} done before" in text
    assert text.count("quick cpp") == 3 - len(kept)
    until((machines.there / "0002-normalise.round.zip").exists, search)
    text = said(machines.evaluate(machines.there))
    assert "1/1  INCORRECT_NUMERICAL  accept cpp" in text
    lines = said(search).splitlines()
    first_round = dict(line.split()[1:] for line in lines if line[:1].isdigit())
    assert (first_round.pop("broken"), first_round.pop("wrong")) == ("compile:COMPILE_ERROR", "properties:INCORRECT_NUMERICAL")
    assert first_round["right"].startswith("quick:")  # how fast it is says nothing on a machine that others use
    assert lines[-1] == "accepted INCORRECT_NUMERICAL"
    assert sorted(path.name for path in machines.there.iterdir()) == ["device.json", "done"]
    assert list(machines.elsewhere.iterdir()) == []


@pytest.fixture
def a_round(tmp_path, spec) -> Callable[..., Path]:
    declared, files = declare(spec, CASES)

    def leave(*sources: str, target: str = "cpu", **fields) -> Path:
        jobs = tuple(Job(kind="quick", language="cpp", source=source) for source in sources)
        made = Round(**dict(declared=declared, target=target, jobs=jobs, plan_seed=5, files=files, kevolve="0") | fields)
        path = tmp_path / "0001-normalise.round.zip"
        path.write_bytes(made.packed())
        return path

    return leave


def test_devices_share_a_round_and_a_process_that_dies_takes_only_its_own_jobs_with_it(a_round, tmp_path, monkeypatch, capfd):
    """Two measuring processes, told apart by their environment as a target's devices are; the second cannot even start."""
    path = a_round("int first(;", "int second(;", "int third(;")
    monkeypatch.setattr("kevolve.targets.cpu.CPU.selections", lambda _self: ({}, {"PYTHONHOME": "/nowhere"}), raising=False)
    assert cli.main(["evaluate", str(path)]) == 1
    captured = capfd.readouterr()
    assert "0001-normalise.round.zip: 1 of 3 jobs are not done, a measuring process ended early (status 0, 1)" in captured.err
    assert [line.split()[:2] for line in captured.out.splitlines()[1:]] == [["1/3", "COMPILE_ERROR"], ["2/3", "COMPILE_ERROR"]]
    assert sorted(entry.name for entry in tmp_path.glob("0001*")) == ["0001-normalise.journal.jsonl", "0001-normalise.round.zip"]


def test_what_is_done_already_is_not_done_again(a_round, tmp_path, capfd):
    path = a_round(BROKEN)
    answer(Sent(path=path, asked=round_file.read(path)))
    assert cli.main(["evaluate", str(path)]) == 0
    assert capfd.readouterr().out == f"kevolve: normalise: {tmp_path / '0001-normalise.results.zip'} is there already\n"


def test_what_an_archive_says_moves_no_cursor(a_round, spec, capfd):
    declared, _ = declare(spec, CASES)
    path = a_round(BROKEN, declared=replace(declared, name="normalise\x1b[2J"))
    answer(Sent(path=path, asked=round_file.read(path)))
    assert cli.main(["evaluate", str(path)]) == 0
    assert capfd.readouterr().out.startswith("kevolve: normalise\\x1b[2J: ")


def refusal(capfd, *arguments: str | Path) -> str:
    assert cli.main(["evaluate", *map(str, arguments)]) == 1
    return capfd.readouterr().err


def test_what_cannot_be_worked_off_is_said_in_a_line(a_round, tmp_path, capfd):
    path = a_round(BROKEN, target="nowhere")
    assert refusal(capfd, path).startswith("kevolve evaluate: unknown target 'nowhere'; registered: ")
    assert refusal(capfd, tmp_path / "no.round.zip") == f"kevolve evaluate: {tmp_path / 'no.round.zip'}: No such file or directory\n"
    (tmp_path / "bad.round.zip").write_text("no archive")
    assert refusal(capfd, tmp_path / "bad.round.zip").startswith(
        "kevolve evaluate: bad.round.zip: expected a zip archive of kevolve's, got "
    )
    (tmp_path / "empty").mkdir()
    assert refusal(capfd, tmp_path / "empty") == f"kevolve evaluate: no round (*.round.zip) in {tmp_path / 'empty'}\n"
    assert [entry.name for entry in tmp_path.glob("*.journal.jsonl")] == []


def test_other_results_in_the_way_are_left_alone(a_round, tmp_path, capfd):
    path, out = a_round(BROKEN), tmp_path / "mine.zip"
    out.write_text("mine")
    assert "is there and is not this round's" in refusal(capfd, path, "--out", out)
    assert out.read_text() == "mine"


def test_a_missing_device_is_told_and_nothing_is_written(a_round, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("kevolve.targets.cpu.CPU.missing", lambda _self: "no processor")
    assert refusal(capfd, a_round(BROKEN)) == "kevolve evaluate: 0001-normalise.round.zip: target cpu: no processor\n"
    assert sorted(entry.name for entry in tmp_path.glob("0001*")) == ["0001-normalise.round.zip"]


@pytest.mark.parametrize(
    "arguments", [["evaluate"], ["evaluate", "a.zip", "--jobs", "0"], ["evaluate", "a.zip", "b.zip", "--out", "c.zip"]]
)
def test_a_wrong_command_line_is_refused_before_anything_is_read(arguments, capfd):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: kevolve evaluate" in capfd.readouterr().err


def test_results_are_not_taken_for_rounds(tmp_path):
    (tmp_path / "1.round.zip").touch()
    (tmp_path / "1.results.zip").touch()
    assert evaluate._rounds(tmp_path) == [tmp_path / "1.round.zip"]
    assert evaluate._rounds(tmp_path / "1.results.zip") == []
