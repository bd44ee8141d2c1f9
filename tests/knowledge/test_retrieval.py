"""Are the documents that an engineer would want among the first five? Recorded outcomes, labelled before the ranking was tuned.

Recall at 5: the share of all labelled documents, over all diagnoses, that are among the first five found.
"""

from __future__ import annotations

import time

import pytest

from kevolve.knowledge.library import Library
from tests.knowledge.recorded import diagnosed, lines

AT, LEAST, FEWEST = 5, 0.9, 60
LINES = [line for line in lines() if line["documents"]]  # what was recorded since waits for its labels


@pytest.fixture(scope="module")
def library():
    return Library()


def test_there_are_enough_diagnoses_each_labelled_with_documents_that_exist(library):
    assert len(LINES) >= FEWEST
    assert all(1 <= len(line["documents"]) <= 4 for line in LINES)
    assert {id for line in LINES for id in line["documents"]} <= library.documents.keys()


def test_recall_at_5_over_recorded_outcomes(library):
    wanted, missed = 0, []
    for line in LINES:
        found = [item.document.id for item in library.search(diagnosed(line), limit=AT)]
        wanted += len(line["documents"])
        missed += [f"{line['name']}: {id} (found {', '.join(found)})" for id in line["documents"] if id not in found]
    recall = 1 - len(missed) / wanted
    assert recall >= LEAST, f"recall at {AT} is {recall:.3f} of {wanted}; missing:\n" + "\n".join(missed)


def test_a_diagnosis_is_searched_for_in_10_ms(library):
    diagnoses = [diagnosed(line) for line in LINES]
    times = []
    for diagnosis in diagnoses:
        began = time.process_time()
        library.search(diagnosis)
        times.append(time.process_time() - began)
    assert sorted(times)[len(times) // 2] < 0.010
