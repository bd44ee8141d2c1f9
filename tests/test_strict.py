"""A strict run refuses where candidates cannot be confined in full; others are judged there and say so. Filters are the kernel's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kevolve.evaluate import seccomp
from tests.plain_kernel import NORMALISE

FORBIDDING = Path(__file__).parent / "evaluate" / "forbidding.py"
SPEC = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def normalised(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

@kevolve.kernel(normalised, vary=dict(cols=sizes(1, 24)), baseline=("eager",))
@pytest.mark.parametrize("rows, cols", [(4, 32)])
def test_normalise(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""
ISOLATION = """
import json, sys, tempfile
from pathlib import Path
from kevolve.evaluate import sandbox
from kevolve.evaluate.client import ChildFailed, Workers
from kevolve.targets.cpu import CPU

class Starting(CPU):
    starts_programs, writes = True, ()

with tempfile.TemporaryDirectory() as folder, Workers(sys_path=[], scratch=Path(folder), strict=True) as workers:
    for target in (CPU(), Starting()):
        had = workers.isolation(target=target, language="cpp")
        with workers.child(target=target, language="cpp") as child:
            try:
                refused = child.call("load_candidate", language="cpp", artifact="/no/where/it.so", entry="x", deadline_s=30) and ""
            except ChildFailed as error:
                refused = error.message
        print(json.dumps({"level": had["level"], "missing": sandbox.missing(had), "refused": refused}))
"""


def forbidding(calls: str, *command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FORBIDDING), calls, *command], capture_output=True, text=True, timeout=120, check=False, cwd=folder
    )


@pytest.fixture(scope="session", autouse=True)
def _whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = forbidding("", sys.executable, "-c", ISOLATION, folder=tmp_path_factory.mktemp("whole"))
    if [json.loads(line)["level"] for line in found.stdout.splitlines()] != ["full", "full"]:
        pytest.skip(f"this system confines less: {found.stdout}{found.stderr}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(SPEC)
    kernel = tmp_path / "kernels" / "normalise" / "cpu.cpp"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(NORMALISE)
    return tmp_path


@pytest.mark.parametrize(
    ("calls", "levels", "absent"),
    [
        ("unshare=1", ("full", "full"), ({}, {})),
        (
            "landlock_create_ruleset=38",
            ("partial", "partial"),
            ({"files": "not confined: Landlock: Function not implemented"},) * 2,
        ),
        ("seccomp=1", ("partial", "partial"), ({"system_calls": "not filtered: Operation not permitted"},) * 2),
        (
            "listener=16",
            ("partial", "partial"),
            (
                {"system_calls": f"{seccomp.ALONE}; threads and processes are counted afterwards"},
                {"system_calls": f"{seccomp.WITH_PROGRAMS}; threads and processes are counted afterwards"},
            ),
        ),
        ("capset=1", ("partial", "partial"), ({"capabilities": "kept: Operation not permitted"},) * 2),
        (
            "unshare=1,landlock_create_ruleset=38,seccomp=1",
            ("none", "none"),
            (
                {
                    "network": "shared: Operation not permitted",
                    "files": "not confined: Landlock: Function not implemented",
                    "system_calls": "not filtered: Operation not permitted",
                },
            )
            * 2,
        ),
    ],
)
def test_what_a_container_forbids_is_named_and_no_candidate_is_loaded_without_it(
    tmp_path: Path, calls: str, levels: tuple[str, str], absent: tuple[dict[str, str], ...]
) -> None:
    done = forbidding(calls, sys.executable, "-c", ISOLATION, folder=tmp_path)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["level"], each["missing"]) for each in found] == list(zip(levels, absent, strict=True)), done.stderr
    for each in found:
        expected = "PermissionError: not confined as --kevolve-sandbox=strict demands" if each["missing"] else "/no/where/it.so"
        assert expected in each["refused"]


def test_a_strict_run_on_such_a_system_is_a_usage_error_before_the_first_test(project: Path) -> None:
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "properties")
    refused = forbidding("landlock_create_ruleset=38", *command, "--kevolve-sandbox=strict", folder=project)
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--kevolve-sandbox=strict: expected candidates to be confined in full, this system lacks" in refused.stderr
    assert "  files: not confined: Landlock: Function not implemented" in refused.stderr
    assert "passed" not in refused.stdout


def test_the_ini_says_it_too_and_the_default_judges_with_what_there_is(project: Path) -> None:
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "properties", "--kevolve-record", "record.json")
    judged = forbidding("landlock_create_ruleset=38,unshare=1,seccomp=1", *command, folder=project)
    assert "1 passed" in judged.stdout, judged.stdout
    assert json.loads((project / "record.json").read_text())["environment"]["isolation"]["level"] == "none"
    (project / "pytest.ini").write_text("[pytest]\nkevolve_sandbox = strict\n")
    assert "1 passed" in forbidding("unshare=1", *command, folder=project).stdout
    assert forbidding("seccomp=1", *command, folder=project).returncode == pytest.ExitCode.USAGE_ERROR
    (project / "pytest.ini").write_text("[pytest]\nkevolve_sandbox = tight\n")
    wrong = forbidding("", *command, folder=project)
    assert "kevolve_sandbox: expected one of available, strict, got 'tight'" in wrong.stderr
