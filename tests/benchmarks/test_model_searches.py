"""Searches with a model, measured elsewhere: what is carried, what comes back, what is kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.model_searches import MODEL, exchanges, fittest, results, rounds
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.report.record import Environment
from kevolve.spool import results as results_file
from kevolve.spool import round as round_file
from kevolve.spool.declared import Declared
from kevolve.spool.results import JobResult, Results
from kevolve.spool.round import Job, ReadRound, Round

DECLARED = Declared(
    module="test_norms",
    function="test_norm",
    nodeid="suites/some/test_norms.py::test_norm",
    name="norm",
    hash="0" * 64,
    cases=(("4", '{"values":{"n":4},"seed":0}', None),),
)
SLOW, FAST, WRONG = (f"import torch\n\n\ndef norm(x):\n    return {what}\n" for what in ("x + 0", "x", "-x"))


def search(folder: Path, name: str) -> Path:
    place = folder / name
    (place / "spool").mkdir(parents=True)
    (place / "repo" / ".kevolve").mkdir(parents=True)
    return place


def test_rounds_that_wait_are_carried_under_their_searchs_name_and_results_are_laid_beside_them(tmp_path: Path) -> None:
    for name in ("norm", "norm-off"):
        place = search(tmp_path, name)
        (place / "spool" / "0001-norm.round.zip").write_text("answered")
        (place / "spool" / "0001-norm.results.zip").write_text("answer")
        round_of(place / "spool" / "0002-norm.round.zip", SLOW, FAST)
    out = tmp_path / "out"
    carried = {path.name: path.read_bytes() for path in rounds(tmp_path, out)}
    own = (tmp_path / "norm" / "spool" / "0002-norm.round.zip").read_bytes()
    assert carried == {"norm.0002-norm.round.zip": own, "norm-off.0002-norm.round.zip": own}
    measured(out, "norm-off", {SLOW: 1.5, FAST: 2.0})
    (laid,) = results(tmp_path, out)
    assert laid == tmp_path / "norm-off" / "spool" / "0002-norm.results.zip"
    assert laid.read_bytes() == (out / "norm-off.0002-norm.results.zip").read_bytes()
    assert not (tmp_path / "norm" / "spool" / "0002-norm.results.zip").exists()
    assert [path.name for path in rounds(tmp_path, tmp_path / "again")] == ["norm.0002-norm.round.zip"]


def test_a_search_that_was_begun_anew_gets_the_results_of_the_same_jobs_and_of_no_others(tmp_path: Path) -> None:
    waits = search(tmp_path, "norm") / "spool" / "0002-norm.round.zip"
    asked = round_of(waits, FAST, SLOW)
    out = tmp_path / "out"
    out.mkdir()
    measured(out, "norm", {SLOW: 1.5, FAST: 2.0})
    (laid,) = results(tmp_path, out)
    found = results_file.read(laid, asked)
    assert [each.fitness for each in found.results] == [2.0, 1.5]
    laid.unlink()
    round_of(waits, FAST, WRONG)
    with pytest.raises(SystemExit, match=r"norm\.0002-norm\.results\.zip: these are results of another round"):
        list(results(tmp_path, out))


def round_of(path: Path, *sources: str) -> ReadRound:
    """A round that asks for these candidates."""
    jobs = tuple(Job(kind="quick", language="triton", source=source) for source in sources)
    path.write_bytes(Round(declared=DECLARED, target="cuda", jobs=jobs, plan_seed=7).packed())
    return round_file.read(path)


def measured(out: Path, name: str, fitness: dict[str, float]) -> None:
    """A round with these candidates, and its results."""
    path = out / f"{name}.0002-norm.round.zip"
    asked = round_of(path, *fitness)
    found = [
        JobResult(
            job=asked.round.identity(job),
            outcome=Outcome(status=Status.PASSED if fitness[job.source] else Status.INCORRECT_NUMERICAL, stage=Stage.QUICK),
            fitness=fitness[job.source],
        )
        for job in asked.round.jobs
    ]
    environment = Environment(device="Some device", arch="sm90", date="2026-01-01T00:00:00+00:00")
    packed = Results(round=asked.sha256, environment=environment, results=tuple(found), device={"name": "Some device"}).packed()
    path.with_name(path.name.replace(".round.", ".results.")).write_bytes(packed)


def test_the_fittest_of_a_specs_searches_is_laid_beside_its_test_once(tmp_path: Path) -> None:
    out, checkout = tmp_path / "out", tmp_path / "checkout"
    out.mkdir()
    measured(out, "norm", {SLOW: 1.5, WRONG: 0.0})
    measured(out, "norm-off", {FAST: 2.0})
    kernels = checkout / "suites" / "some" / "kernels" / "norm"
    kernels.mkdir(parents=True)
    (kernels / "cuda.cu").write_text("an older one in another language")
    (kernels / "cpu.cpp").write_text("another target's")
    assert list(fittest(out, checkout)) == ["norm: 2.00x, suites/some/kernels/norm/cuda.py"]
    assert {path.name: path.read_text() for path in kernels.iterdir()} == {"cuda.py": FAST, "cpu.cpp": "another target's"}
    (kernels / "cuda.py").write_text("# a header\n" + FAST)
    assert list(fittest(out, checkout)) == ["norm: 2.00x, stands there"]
    assert (kernels / "cuda.py").read_text().startswith("# a header")


def test_kept_exchanges_name_no_machine(tmp_path: Path) -> None:
    own = 'command:agent "/home/me/desk" {workspace}'
    entry = {"model": own, "key": "k", "reply": {"model": own, "text": "a kernel"}}
    lines = [json.dumps({"piece": "p", "value": "text"}), json.dumps(entry)]
    (search(tmp_path, "pffn") / "repo" / ".kevolve" / "exchanges.jsonl").write_text("\n".join(lines) + "\n")
    (kept,) = exchanges(tmp_path, tmp_path / "out")
    first, second = map(json.loads, gzip.decompress(kept.read_bytes()).decode().splitlines())
    assert first == {"piece": "p", "value": "text"}
    assert second == {"model": MODEL, "key": "k", "reply": {"model": MODEL, "text": "a kernel"}}
