"""A round holds all that a measuring machine needs, nothing that it must not know, and is believed only as it was sent."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kevolve.spec.spec import Case
from kevolve.spool import SpoolError, container
from kevolve.spool import round as round_file
from kevolve.spool.container import BadArchive
from kevolve.spool.declared import declare
from kevolve.spool.round import Job, Round, in_order
from tests.plain_kernel import NORMALISE
from tests.spool.project import CASES, changed

JOBS = (Job(kind="quick", language="cpp", source=NORMALISE), Job(kind="accept", language="cpp", source=NORMALISE))


@pytest.fixture
def made(spec):
    declared, files = declare(spec, CASES)
    return Round(declared=declared, target="cpu", jobs=JOBS, plan_seed=7, kept=('{"values":{"rows":1,"cols":2},"seed":3}',), files=files)


def refusal(path: Path) -> str:
    with pytest.raises(BadArchive) as caught:
        round_file.read(path)
    return str(caught.value)


def test_a_round_is_read_as_it_was_packed(made, tmp_path):
    path = tmp_path / "1.round.zip"
    path.write_bytes(made.packed())
    found = round_file.read(path)
    assert found.round == made
    assert len(found.sha256) == 64


def test_a_rounds_jobs_stand_once_each_in_an_order_that_their_arrival_does_not_change():
    other = Job(kind="quick", language="cpp", source=NORMALISE + "// another\n")
    first, second = in_order((*JOBS, other, JOBS[0])), in_order((other, JOBS[1], JOBS[0]))
    assert first == second
    assert sorted(job.kind for job in first) == ["accept", "quick", "quick"]


def test_the_files_are_the_specs_own_and_what_they_import_and_no_installed_packages(made):
    assert sorted(made.files) == ["carried_constants.py", "carried_reference.py", "carried_spec.py"]


def test_nothing_in_a_round_names_this_machine_or_its_user(made, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")
    path = tmp_path / "1.round.zip"
    path.write_bytes(made.packed())
    text = b"".join(container.read(path)[0].values())
    for secret in (b"sk-very-secret", b"SOME_API_KEY", str(tmp_path).encode(), str(Path.home()).encode() + b"/"):
        assert secret not in text


def test_the_rebuilt_spec_is_the_same_in_a_process_that_never_saw_the_project(made, tmp_path):
    folder = tmp_path / "elsewhere"
    round_file.unpack(made, folder)
    (tmp_path / "declared.json").write_text(json.dumps(made.declared.to_json()))
    script = """
import json, sys
sys.path.insert(0, sys.argv[1])
from kevolve.report.fields import Fields
from kevolve.spool.declared import Declared, rebuild
spec = rebuild(Declared.from_json(Fields(json.load(open(sys.argv[2])), "spec")))
print(spec.hash, spec.name, spec.nodeid, dict(spec.cases[0].values), spec.folder == __import__("pathlib").Path(sys.argv[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path / "declared.json"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == f"{made.declared.hash} normalise carried_spec.py::test_normalise {{'rows': 64, 'cols': 512}} True"


def test_jobs_are_the_same_whatever_the_seed_and_differ_by_kind_text_target_and_case(made):
    first, second = made.identities
    assert first != second
    assert replace(made, plan_seed=8, kept=()).identities == (first, second)
    assert replace(made, target="other").identities[0] != first
    assert replace(made, declared=replace(made.declared, cases=(("a", '{"values":{},"seed":0}', None),))).identities[0] != first
    assert made.identity(Job(kind="quick", language="cpp", source=NORMALISE + "\n")) != first


def write(made: Round, path: Path, *, drop: str = "", add: dict[str, bytes] | None = None, **fields) -> Path:
    """The round's archive with parts of it replaced."""
    path.write_bytes(made.packed())
    members, _ = container.read(path)
    members["round.json"] = changed(members["round.json"], **fields)
    path.write_bytes(container.packed({name: text for name, text in members.items() if name != drop} | (add or {})))
    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": 2}, "expected format 1, got 2: use the version of kevolve that wrote it"),
        ({"plan_seed": -1}, "round.json.plan_seed: expected a whole number of at least 0, got -1"),
        ({"target": 3}, "round.json.target: expected a string, got 3"),
        ({"kept": [3]}, "round.json.kept: expected a list of texts"),
        (
            {"jobs": [{"kind": "run", "language": "cpp", "candidate": "x"}]},
            "round.json.jobs[0].kind: expected one of quick, accept, got 'run'",
        ),
        ({"spec": []}, "round.json.spec: expected an object, got []"),
    ],
)
def test_a_field_that_is_not_as_expected_is_named(made, tmp_path, fields, said):
    if "jobs" in fields:
        fields["jobs"][0]["candidate"] = JOBS[0].address
    assert refusal(write(made, tmp_path / "1.round.zip", **fields)) == f"1.round.zip: {said}"


def test_a_candidate_that_is_another_text_than_its_address_says_is_refused(made, tmp_path):
    path = write(made, tmp_path / "1.round.zip", add={f"candidates/{JOBS[0].address}": b"int main() {}"})
    assert refusal(path).startswith(f"1.round.zip: round.json.jobs[0]: expected a candidate whose SHA-256 is {JOBS[0].address:.16}, got ")


def test_a_member_that_nobody_asked_for_is_refused(made, tmp_path):
    path = write(made, tmp_path / "1.round.zip", add={"setup.sh": b"rm"})
    assert refusal(path) == "1.round.zip: expected round.json, candidates/ and modules/ only, got 'setup.sh'"


def test_an_archive_of_something_else_is_refused(made, tmp_path):
    path = write(made, tmp_path / "1.round.zip", drop="round.json")
    assert refusal(path) == "1.round.zip: expected a round of kevolve's, got an archive without 'round.json'"


def test_only_python_files_are_unpacked(made, tmp_path):
    with pytest.raises(BadArchive, match=r"modules/'run\.sh': expected a Python file"):
        round_file.unpack(replace(made, files={"run.sh": b""}), tmp_path)


def test_a_case_whose_values_only_this_process_has_cannot_be_sent(spec):
    case = Case(id="odd", values={"rows": 64, "cols": object})
    with pytest.raises(SpoolError, match="case odd cannot be sent to another machine: expected values that JSON has"):
        declare(spec, (case,))


def test_an_existing_kernel_is_not_sent(spec):
    with pytest.raises(SpoolError, match="a kernel that exists as pkg:f is not searched for, and not sent anywhere"):
        declare(replace(spec, kernel="pkg:f"), CASES)
