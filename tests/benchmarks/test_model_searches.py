"""Searches with a model, measured elsewhere: what is carried, what comes back, what is kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from benchmarks.model_searches import MODEL, exchanges, results, rounds


def search(folder: Path, name: str) -> Path:
    place = folder / name
    (place / "spool").mkdir(parents=True)
    (place / "repo" / ".kevolve").mkdir(parents=True)
    return place


def test_rounds_that_wait_are_carried_under_their_searchs_name_and_results_are_laid_beside_them(tmp_path: Path) -> None:
    for name in ("pffn", "pffn-off"):
        place = search(tmp_path, name)
        (place / "spool" / "0001-pffn.round.zip").write_text("answered")
        (place / "spool" / "0001-pffn.results.zip").write_text("answer")
        (place / "spool" / "0002-pffn.round.zip").write_text(name)
    out = tmp_path / "out"
    carried = {path.name: path.read_text() for path in rounds(tmp_path, out)}
    assert carried == {"pffn.0002-pffn.round.zip": "pffn", "pffn-off.0002-pffn.round.zip": "pffn-off"}
    (out / "pffn-off.0002-pffn.results.zip").write_text("measured")
    assert [path.read_text() for path in results(tmp_path, out)] == ["measured"]
    assert (tmp_path / "pffn-off" / "spool" / "0002-pffn.results.zip").read_text() == "measured"
    assert not (tmp_path / "pffn" / "spool" / "0002-pffn.results.zip").exists()
    assert [path.name for path in rounds(tmp_path, tmp_path / "again")] == ["pffn.0002-pffn.round.zip"]


def test_kept_exchanges_name_no_machine(tmp_path: Path) -> None:
    own = 'command:agent "/home/me/desk" {workspace}'
    entry = {"model": own, "key": "k", "reply": {"model": own, "text": "a kernel"}}
    lines = [json.dumps({"piece": "p", "value": "text"}), json.dumps(entry)]
    (search(tmp_path, "pffn") / "repo" / ".kevolve" / "exchanges.jsonl").write_text("\n".join(lines) + "\n")
    (kept,) = exchanges(tmp_path, tmp_path / "out")
    first, second = map(json.loads, gzip.decompress(kept.read_bytes()).decode().splitlines())
    assert first == {"piece": "p", "value": "text"}
    assert second == {"model": MODEL, "key": "k", "reply": {"model": MODEL, "text": "a kernel"}}
