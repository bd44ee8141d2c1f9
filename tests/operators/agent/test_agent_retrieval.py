"""What a run's models may look up."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from kevolve.operators.agent import Agent
from kevolve.operators.agent.retrieval import UnusableKnowledge, retrieval
from kevolve.search.policies import Step
from tests.operators.agent.test_agent_prompt import FakeLibrary
from tests.operators.scripted import Plain, Scripted, call, calls, context, finish, node


class BadDocumentError(Exception):
    """As the library raises it."""


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Knowledge whose library notes what it is given, and refuses a folder called ``bad``."""
    asked: list[object] = []

    def library(folders: tuple[Path, ...], *, cache: Path | None) -> FakeLibrary:
        asked.append((folders, cache))
        if any(folder.name == "bad" for folder in folders):
            raise BadDocumentError("bad/a.md: no title")
        return FakeLibrary()

    fields = {"library": {"Library": library}, "diagnosis": {"diagnose": max}, "documents": {"BadDocument": BadDocumentError}}
    for name, held in fields.items():
        module = ModuleType(f"kevolve.knowledge.{name}")
        module.__dict__.update(held)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def test_a_users_folders_are_searched_with_ours(documents: list[object], tmp_path: Path):
    library, diagnose = retrieval([tmp_path], tmp_path / "cache")
    assert library is not None
    assert diagnose is max
    assert documents == [((tmp_path,), tmp_path / "cache")]


def test_retrieval_is_switched_off_by_none_unless_there_is_such_a_folder(documents: list[object], tmp_path: Path):
    assert retrieval([tmp_path / "none"], None) == (None, None)
    (tmp_path / "none").mkdir()
    assert retrieval([tmp_path / "none"], None)[0] is not None


def test_documents_that_cannot_be_read_are_named(documents: list[object]):
    with pytest.raises(UnusableKnowledge, match=r"--kevolve-knowledge: bad/a\.md: no title"):
        retrieval([Path("bad")], None)


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
