"""What a person reads of a search: whole outputs, of texts that models wrote, of stores that are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kevolve import cli
from kevolve.commands import node_text
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search.node import Graph, Node, Proposal
from kevolve.store import export
from kevolve.store.graph_store import GraphStore

NOW = "2026-01-02T03:04:05.000+00:00"
SPEC = "suites/test_norms.py::test_rms_norm"
HOSTILE = "[red]fast[/red] \x1b[2J\x07 :boom: \u202eevil\u2066 \u2028next"
SHOWN = "[red]fast[/red] \\x1b[2J\\x07 :boom: \\u202eevil\\u2066 next"
TRANSCRIPT = {
    "format": 1,
    "model": "big",
    "prompt": {"tokens": 900, "sections": [{"name": "rules", "tokens": 300, "budget": 400, "left_out": 0}]},
    "system": "You write kernels.",
    "messages": [
        {"role": "user", "parts": [{"text": "\n".join(f"line {number}" for number in range(30))}]},
        {"role": "assistant", "parts": [{"text": "I try."}, {"call": "compile", "id": "1", "arguments": {"source": "int a;\nint b;"}}]},
        {"role": "user", "parts": [{"result": "1", "text": "no \x1b[31m", "failed": True}]},
    ],
}


def outcome(status: Status = Status.PASSED, stage: Stage = Stage.QUICK, message: str = "", **detail) -> Outcome:
    return Outcome(status=status, stage=stage, message=message, detail=detail)


def add(store: GraphStore, given: Outcome, fitness: float = 0.0, *, spec: str = SPEC, spec_hash: str = "h", **fields) -> Node:
    values = dict(language="cpp", source=f"int f() {{ return {fitness:g}; }}\n", operator="samples", idea="one pass")
    proposal = Proposal(**values | fields)
    return store.add(
        run=1,
        spec=spec,
        spec_hash=spec_hash,
        target="cpu: a processor",
        proposal=proposal,
        normal_hash=proposal.source,
        outcome=given,
        fitness=fitness,
        seconds=3.2,
        decision={"asked": 4, "why": "the best\nso far"},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    return tmp_path / ".kevolve"


@pytest.fixture
def store(folder):
    with GraphStore(folder, now=lambda: NOW) as opened:
        opened.start_run(arguments=[], environment={})
        yield opened


@pytest.fixture
def small(store) -> GraphStore:
    """A draft, a better one, a failure, a duplicate and a child of two."""
    add(store, outcome(message="1.50x", speedups={"8-16": 1.5, "32-64": 1.5}), 1.5)
    add(store, outcome(message="2.00x"), 2.0, operator="tuning", idea="block=64", parents=(1,), knobs={"block": 64})
    add(
        store,
        outcome(Status.COMPILE_ERROR, Stage.COMPILE, f"error: {HOSTILE}\nmore"),
        operator="universal",
        idea=HOSTILE,
        parents=(2,),
        source=f"// {HOSTILE}\nint f();\n",
        hypothesis=f"fewer bytes {HOSTILE}",
        predicted_gain=1.3,
    )
    add(store, outcome(Status.PASSED, Stage.DUPLICATE, "the same as node 2", node=2), 2.0, parents=(1,), source="// again\nint f();")
    add(store, outcome(Status.TOO_SLOW, message="0.90x"), 0.9, parents=(1, 2), idea="both")
    return store


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["search", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["search", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_alone_it_lists_the_specs_with_counts_and_best(small, capsys):
    add(small, outcome(Status.TIMEOUT), spec="suites/test_sum.py::test_total")
    assert run(capsys) == (
        "spec                                 target            nodes  working  best        last\n"
        "suites/test_norms.py::test_rms_norm  cpu: a processor      5        4  2.00x (#2)  2026-01-02T03:04\n"
        "suites/test_sum.py::test_total       cpu: a processor      1        0  none        2026-01-02T03:04\n"
    )


def test_the_tree_shows_every_node_below_its_first_parent_and_what_it_gave(small, capsys):
    assert run(capsys, "tree") == (
        "suites/test_norms.py::test_rms_norm on cpu: a processor\n"
        "5 nodes of 1 run, best 2.00x (#2)\n"
        "└── #1  1.50x  samples  one pass\n"
        "    ├── #2  2.00x  best  tuning  block=64\n"
        f"    │   └── #3  COMPILE_ERROR  universal  {SHOWN}: error: {SHOWN} …\n".replace(f"error: {SHOWN} …", f"error: {SHOWN}"[:59] + "…")
        + "    ├── #4  the same as #2  samples  one pass\n"
        "    └── #5  0.90x  samples  both  also from #2\n"
    )


def test_a_large_tree_is_folded_to_the_fittest_and_their_ancestors_and_counts(store, capsys):
    add(store, outcome(), 1.0)
    for number in range(2, 50):
        add(store, outcome() if number % 2 else outcome(Status.TIMEOUT), number / 50 if number % 2 else 0.0, parents=(1,))
    add(store, outcome(), 3.0, parents=(7,))
    text = run(capsys, "tree")
    assert text == (
        "suites/test_norms.py::test_rms_norm on cpu: a processor\n"
        "50 nodes of 1 run, best 3.00x (#50)\n"
        "└── #1  1.00x  samples  one pass\n"
        "    ├── #7  0.14x  samples  one pass\n"
        "    │   └── #50  3.00x  best  samples  one pass\n"
        "    ├── #45  0.90x  samples  one pass\n"
        "    ├── #47  0.94x  samples  one pass\n"
        "    ├── #49  0.98x  samples  one pass\n"
        "    └── … 44 more: 24 TIMEOUT, 20 slower (best 0.86x)\n"
    ).replace("24 TIMEOUT, 20 slower (best 0.86x)", "20 slower (best 0.86x), 24 TIMEOUT")
    assert len(run(capsys, "tree", "--all").splitlines()) == 52


def test_the_newest_version_of_a_spec_is_shown_and_older_nodes_are_counted(small, capsys):
    add(small, outcome(message="2.50x"), 2.5, spec_hash="new", operator="inherited", parents=(2,))
    assert run(capsys, "tree", "rms_norm") == (
        "suites/test_norms.py::test_rms_norm on cpu: a processor\n"
        "1 node of 1 run, best 2.50x (#6); 5 nodes of older versions of the spec\n"
        "└── #6  2.50x  best  inherited  one pass  from #2 of an older version\n"
    )


def test_a_very_long_path_is_drawn_without_recursion(store, capsys):
    for number in range(1, 600):
        add(store, outcome(), 1 + number / 1000, parents=(number - 1,) if number > 1 else ())
    lines = run(capsys, "tree").splitlines()
    assert lines[8:11] == [
        "                        └── #7  1.01x  samples  one pass",
        "                            ├── #8  1.01x  samples  one pass",
        "                            ├── #9  1.01x  samples  one pass  from #8",
    ]
    assert lines[-1].strip() == "└── #599  1.60x  best  samples  one pass  from #598"


def test_a_spec_is_named_by_a_part_of_its_id_and_its_own_name_comes_first(small, capsys):
    add(small, outcome(), 1.0, spec="suites/test_norms.py::test_rms_norm_backward")
    assert run(capsys, "tree", "rms_norm").count(" on cpu") == 1
    assert run(capsys, "tree", "norm").count(" on cpu") == 2
    assert run(capsys, "tree", "--target", "cpu").count(" on cpu") == 2


def test_a_node_is_shown_with_all_that_is_known_of_it(small, capsys):
    assert run(capsys, "show", "2") == (
        "node 2 of suites/test_norms.py::test_rms_norm on cpu: a processor\n"
        "  gave          2.00x, PASSED in stage quick\n"
        "  idea          block=64\n"
        "  by            tuning, memory: parent\n"
        "  parents       #1 (1.50x)\n"
        "  children      #3 (COMPILE_ERROR), #5 (0.90x)\n"
        '  knobs         {"block": 64}\n'
        "  gain          measured 1.33x of the best parent's\n"
        "  time          0 s to propose, 3 s to evaluate\n"
        "  when          run 1, 2026-01-02T03:04:05.000+00:00\n"
        "  spec version  h\n"
        "\n"
        "outcome\n"
        "  2.00x\n"
        "\n"
        "decision\n"
        "  asked  4\n"
        '  why    "the best\\nso far"\n'
        "\n"
        "source (cpp)\n"
        "  int f() { return 2; }\n"
    )


def test_figures_by_case_stand_in_a_line(small, capsys):
    assert "measured\n  speedups  8-16 1.5, 32-64 1.5\n" in run(capsys, "show", "#1")


def test_what_a_model_wrote_moves_no_cursor_and_is_no_markup(small, capsys):
    for arguments in (("show", "3", "--full"), ("diff", "3"), ("tree",), ()):
        text = run(capsys, *arguments)
        assert not any(character in text for character in "\x1b\x07\u202e\u2066\u2028"), arguments
    assert f"outcome\n  error: {SHOWN.replace(' next', ' ')}\\u2028next\n  more\n" in run(capsys, "show", "3")


def test_colours_are_for_terminals_only(small, capsys, monkeypatch):
    assert "\x1b" not in run(capsys, "tree")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    coloured = run(capsys, "tree")
    assert "\x1b[1;32m  2.00x" in coloured
    assert "\x1b[2J" not in coloured


def test_a_prediction_stands_beside_what_was_measured():
    parent = node(1, outcome(), 1.0)
    good = node(2, outcome(), 1.2, parents=(1,), predicted_gain=1.5)
    bad = node(3, outcome(Status.TIMEOUT), parents=(1,), predicted_gain=1.5)
    by_id = {1: parent}
    assert node_text.gain(good, by_id) == "predicted 1.50x, measured 1.20x"
    assert node_text.gain(bad, by_id) == "predicted 1.50x, not measured"
    assert node_text.gain(parent, by_id) == ""


def test_costs_say_when_no_price_is_known():
    assert node_text.cost(Usage()) == ""
    usage = Usage(input_tokens=8000, cached_tokens=3000, output_tokens=1300)
    assert node_text.cost(usage) == "12,300 tokens (8,000 read, 3,000 from the cache, 1,300 written), price unknown"
    assert node_text.cost(Usage(output_tokens=1, usd=0.12)) == "1 token (1 written), $0.1200"


def node(number: int, given: Outcome, fitness: float = 0.0, **fields) -> Node:
    proposal = Proposal(**dict(language="cpp", source="", operator="x", idea="x") | fields)
    values = dict(id=number, run=1, spec="s", spec_hash="h", target="t", source_hash="", normal_hash="", seconds=0.0, created="")
    return Node(**values, proposal=proposal, outcome=given, fitness=fitness)


def headings(transcript: str, *, full: bool = False) -> dict[str, str]:
    shown = node(1, outcome(Status.NO_CANDIDATE, Stage.PROPOSE), transcript=transcript)
    return dict(node_text.render(shown, [shown], {}, full=full))


def test_a_transcript_is_shown_by_section_and_message_and_cut_unless_all_is_wanted():
    short = headings(json.dumps(TRANSCRIPT))
    assert list(short)[1:] == ["prompt", "transcript: system", "transcript: 1 user", "transcript: 2 assistant", "transcript: 3 user"]
    assert short["prompt"] == "rules  300 of 400 tokens"
    assert short["transcript: 1 user"].splitlines()[-2:] == ["line 11", "… 18 more lines (--full)"]
    assert short["transcript: 2 assistant"] == "I try.\ncalls compile\n  source: int a;\n    int b;"
    assert short["transcript: 3 user"] == "failed: no \\x1b[31m"
    assert headings(json.dumps(TRANSCRIPT), full=True)["transcript: 1 user"].splitlines()[-1] == "line 29"


@pytest.mark.parametrize(
    "kept", ["plain words", "{", "[1]", '{"messages": 3}', '{"messages": [3, {"parts": [3, {"odd": 1}]}], "prompt": 4}']
)
def test_a_transcript_of_another_form_is_shown_as_it_is(kept):
    assert any(heading.startswith("transcript") for heading in headings(kept))


def test_a_difference_is_from_the_parent_unless_another_is_named(small, capsys):
    assert run(capsys, "diff", "2") == (
        "--- node 1 1.50x one pass\n+++ node 2 2.00x block=64\n@@ -1,2 +1,2 @@\n-int f() { return 1.5; }\n+int f() { return 2; }\n \n"
    )
    assert run(capsys, "diff", "2", "5").startswith("--- node 5 0.90x both\n+++ node 2 2.00x block=64\n")
    assert run(capsys, "diff", "2", "2") == "nodes 2 and 2 hold the same text\n"
    assert refusal(capsys, "diff", "1") == (
        "kevolve search: node 1 has no parent: name another node to compare it with, `kevolve search diff 1 OTHER`\n"
    )


def test_what_is_exported_is_the_graph_again(small, capsys, tmp_path):
    add(small, outcome(message="older"), 0.5, spec_hash="older")
    assert run(capsys, "export", "--out", "graph.jsonl") == "wrote 6 nodes to graph.jsonl\n"
    text = (tmp_path / "graph.jsonl").read_text()
    found = list(export.read(text.splitlines()))
    assert [node for node, _ in found] == small.nodes(SPEC, "cpu: a processor")
    assert {str(decision) for _, decision in found} == {str({"asked": 4, "why": "the best\nso far"})}
    assert [export.line(node, decision) for node, decision in found] == text.splitlines()
    assert run(capsys, "export") == text
    assert Graph.of(node for node, _ in found).best().id == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: expected a node as `kevolve search export` writes it (JSONDecodeError: "),
        ("[]", "line 1: expected a node as `kevolve search export` writes it (TypeError: "),
        ('{"format": 2}', "line 1: expected format 1, got 2"),
        ('{"format": 1}', "line 1: expected a node as `kevolve search export` writes it (KeyError: "),
    ],
)
def test_a_line_that_is_no_node_is_named(line, said):
    with pytest.raises(export.ExportError) as caught:
        list(export.read([line]))
    assert str(caught.value).startswith(said)


def test_a_missing_store_is_told_and_none_is_made(folder, capsys):
    assert refusal(capsys, "tree") == (
        "kevolve search: no search graph in .kevolve: expected kevolve.db there; `pytest --kevolve-optimize` makes one, "
        "--store names another\n"
    )
    assert not folder.exists()


def test_the_store_of_the_folder_above_is_found(small, capsys, folder, monkeypatch):
    (folder.parent / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(folder.parent / "deep" / "er")
    assert run(capsys).count("rms_norm") == 1


@pytest.mark.parametrize("arguments", [(), ("tree",), ("show", "1"), ("export",)])
def test_a_damaged_store_is_told_and_left_as_it_is(small, capsys, folder, arguments):
    small.close()
    database = folder / "kevolve.db"
    for beside in folder.glob("kevolve.db-*"):
        beside.unlink()
    database.write_bytes(b"no database at all" * 100)
    assert "is damaged (file is not a database); it was left as it is: move it aside" in refusal(capsys, *arguments)
    assert database.read_bytes() == b"no database at all" * 100


def test_a_node_whose_text_is_gone_is_told(small, capsys, folder):
    node = small.nodes(SPEC, "cpu: a processor")[1]
    small.artifacts.path(node.source_hash).unlink()
    below = Path(".kevolve/artifacts").resolve()
    assert refusal(capsys, "show", "2") == (
        f"kevolve search: node 2: its text below {below} is missing or damaged; the search will try it anew\n"
    )
    assert run(capsys, "tree").splitlines()[-1] == "1 node left out: their texts are missing or damaged"


def test_what_is_not_there_is_named_with_what_is(small, capsys, folder):
    assert refusal(capsys, "show", "99") == (
        f"kevolve search: no node 99 in {folder / 'kevolve.db'}: expected a number from 1 to 5; `kevolve search tree` shows them\n"
    )
    assert refusal(capsys, "tree", "soft") == (
        f"kevolve search: no nodes of 'soft' on 'any target'; the store holds\n  {SPEC} on cpu: a processor\n"
    )
    out = folder / "kevolve.db" / "graph.jsonl"
    assert refusal(capsys, "export", "--out", str(out)) == f"kevolve search: cannot write {out}: File exists\n"


@pytest.mark.parametrize("arguments", [("show",), ("show", "x"), ("prune",), ("diff", "1", "2", "3")])
def test_a_wrong_command_line_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", *arguments])
    assert caught.value.code == 2
    assert "usage: kevolve search" in capsys.readouterr().err
