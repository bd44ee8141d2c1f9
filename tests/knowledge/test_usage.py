from __future__ import annotations

import json

import pytest

from kevolve.knowledge import usage
from kevolve.knowledge.usage import Usage
from kevolve.search.node import Graph
from tests.knowledge.trees import node


def test_documents_in_prompts_are_counted_with_what_came_of_them(tmp_path):
    transcript = json.dumps({"documents": ["guidance/tails", "guidance/fusion"]})
    graph = Graph.of(
        [node(1, fitness=1.0), node(2, fitness=1.5, parents=(1,), transcript=transcript), node(3, parents=(1,), transcript=transcript)]
    )
    counted = Usage().plus(graph, run=1)
    assert counted.documents["guidance/tails"].prompts == 2
    assert counted.documents["guidance/tails"].gain == pytest.approx(1.5)
    assert counted.plus(graph, run=1) == counted
    usage.write(tmp_path, counted)
    assert usage.read(tmp_path) == counted


def test_a_transcript_that_names_none_counts_nothing():
    assert Usage().plus(Graph.of([node(1, transcript="not JSON")]), run=1).documents == {}


def test_a_file_that_is_no_statistics_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / usage.FILE).write_text("[]")
    with pytest.raises(ValueError, match=r"usage\.json: expected what kevolve wrote there.*delete it to begin anew"):
        usage.read(tmp_path)
