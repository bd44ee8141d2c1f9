"""What a run's models may look up."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevolve.knowledge.diagnosis import diagnose
from kevolve.operators.agent import Agent
from kevolve.operators.agent.retrieval import UnusableKnowledge, retrieval
from kevolve.search.policies import Step
from tests.operators.agent.test_agent_prompt import FakeLibrary
from tests.operators.scripted import Plain, Scripted, call, calls, context, finish, node

HOUSE = """---
title: Quoxes are aligned to 48 bytes in this house
vendor: any
architectures: []
languages: []
families: []
topic: constraints
bottlenecks: []
phases: []
source: https://example.org/house
evidence: measured
---
Quoxes lie at multiples of 48 bytes.
"""


def test_a_users_folders_are_searched_with_ours(tmp_path: Path):
    (tmp_path / "constraints").mkdir()
    (tmp_path / "constraints" / "house.md").write_text(HOUSE)
    library, diagnosed = retrieval([tmp_path], tmp_path / "cache")
    assert library is not None
    assert diagnosed is diagnose
    assert library.find("quoxes 48 bytes", scope=None, limit=1)[0].document.id == "constraints/house"
    assert library.read("guidance/roofline").title


def test_retrieval_is_switched_off_by_none_unless_there_is_such_a_folder(tmp_path: Path):
    assert retrieval([tmp_path / "none"], None) == (None, None)
    (tmp_path / "none").mkdir()
    assert retrieval([tmp_path / "none"], None)[0] is not None


def test_documents_that_cannot_be_read_are_named(tmp_path: Path):
    (tmp_path / "guidance").mkdir()
    (tmp_path / "guidance" / "a.md").write_text("no front matter\n")
    with pytest.raises(UnusableKnowledge, match=r"--kevolve-knowledge: .*a\.md"):
        retrieval([tmp_path], None)


def test_a_model_searches_and_reads_documents():
    library = FakeLibrary()
    model = Scripted(
        calls(call("search_knowledge", 1, query="row registers"), call("search_knowledge", 2, query="nothing")),
        calls(call("read_knowledge", 3, id="samples/normalisation/rows"), call("read_knowledge", 4, id="samples/rows")),
        calls(call("write_kernel", source="// new")),
        finish(),
    )
    Agent([model], library=library, language=lambda name: Plain()).propose(context([node(1)]), Step(parents=(1,)), 1)
    texts = [part.text for message in model.requests[-1].messages[1:] if message.role == "user" for part in message.parts]
    assert texts[0].startswith("`samples/normalisation/rows`: A row in registers\nHold a row")
    assert texts[1].startswith("Nothing found")
    assert texts[2].startswith("# A row in registers\n\nHold a row")
    assert texts[3].startswith("no document 'samples/rows': perhaps samples/normalisation/rows")
    assert [tool.name for tool in model.requests[0].tools][1:3] == ["search_knowledge", "read_knowledge"]
