"""The workflow files of docs/ci.md are YAML, and what they run is there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from kevolve import cli
from kevolve.commands.report import parser
from kevolve.report.writing import form_of

ROOT = Path(__file__).parents[1]
TEXTS = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "ci.md").read_text(), re.MULTILINE | re.DOTALL)
GITHUB, GITLAB = map(yaml.safe_load, TEXTS)
OPTIONS = set(re.findall(r'"(--kevolve-[a-z-]+)"', (ROOT / "kevolve" / "plugin.py").read_text()))


def lines(found):
    """Every command line of a file."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name in ("run", "script", "after_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from lines(value)
    elif isinstance(found, list):
        for value in found:
            yield from lines(value)


def commands(name):
    all_lines = [line for file in (GITHUB, GITLAB) for line in lines(file)]
    words = [shlex.split(line) for line in all_lines if "\n" not in line.strip()]
    return [line for line in words if Path(line[0]).name == name]


def test_both_services_have_a_job_without_and_one_with_a_gpu():
    assert {"without-gpu", "gpu"} <= set(GITHUB["jobs"])
    assert {"without-gpu", "gpu"} <= set(GITLAB)
    assert "self-hosted" in GITHUB["jobs"]["gpu"]["runs-on"]
    assert GITLAB["gpu"]["tags"] == ["gpu"]


def test_the_gate_has_the_whole_history():
    checkouts = [
        step
        for name in ("without-gpu", "gpu")
        for step in GITHUB["jobs"][name]["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert [step["with"]["fetch-depth"] for step in checkouts] == [0, 0]
    assert GITLAB[".kevolve"]["variables"]["GIT_DEPTH"] == 0


def test_every_job_runs_the_gate_and_writes_a_page_a_record_and_junit():
    found = commands("pytest")
    assert len(found) == 4
    for words in found:
        options = {word.partition("=")[0] for word in words}
        assert {"--kevolve-gate", "--kevolve-report", "--kevolve-target", "--junitxml"} <= options
        reports = [Path(words[place + 1]) for place, word in enumerate(words) if word == "--kevolve-report"]
        assert [path.suffix for path in reports] == [".html", ".json"]
        assert all(map(form_of, reports))


@pytest.mark.parametrize(
    "option", sorted({word.partition("=")[0] for words in commands("pytest") for word in words if "--kevolve" in word})
)
def test_an_option_of_the_files_is_one_of_the_plugin(option):
    if option == "--kevolve-gate" and option not in OPTIONS:
        pytest.skip("this checkout has no gate")
    assert option in OPTIONS


def test_what_the_command_is_given_it_takes():
    found = commands("kevolve")
    assert {words[1] for words in found} == {"report"} <= set(cli.COMMANDS)
    for words in found:
        assert parser().parse_args(words[2:]).out


def test_reports_are_kept_of_a_failed_run_too():
    uploads = [
        step for job in GITHUB["jobs"].values() for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")
    ]
    assert [step["with"]["name"] for step in uploads] == ["without-gpu", "gpu", "kevolve"]
    assert all(step["if"] == "${{ !cancelled() }}" for step in uploads[:2])
    artifacts = GITLAB[".kevolve"]["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["reports"]["junit"] == "junit.xml"
    assert "kevolve-note.md" in artifacts["paths"]


def test_no_text_of_strangers_is_put_into_a_shell_and_no_stranger_onto_the_gpu():
    assert not [line for line in lines(GITHUB) if "${{" in line]
    assert "head.repo.full_name == github.repository" in GITHUB["jobs"]["gpu"]["if"]
    assert GITHUB["permissions"] == {"contents": "read"}
