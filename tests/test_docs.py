import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    requirement.name.lower(): requirement
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for requirement in [Requirement(line)]
}
DECLARED = [
    Requirement(text)
    for text in [*PROJECT["dependencies"], *(item for extra in PROJECT["optional-dependencies"].values() for item in extra)]
    if not text.startswith("kevolve[")  # an extra that holds another
]


def test_every_option_is_documented_and_every_documented_option_is_there():
    options = set(re.findall(r'addoption\(\s*"(--kevolve-[a-z-]+)"', (ROOT / "kevolve" / "plugin.py").read_text()))
    documented = set(re.findall(r"^\| `(--kevolve-[a-z-]+)", (ROOT / "docs" / "options.md").read_text(), re.MULTILINE))
    assert options
    assert documented == options


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_links_to_files_that_are_there(document):
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)  # a lambda is no link
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", text)
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_has_a_place_for_the_table():
    text = (ROOT / "README.md").read_text()
    assert 0 < text.index("<!-- table:begin -->") < text.index("<!-- table:end -->")


def test_the_map_of_the_house_names_the_folders_that_are_there():
    named = re.findall(r"`([a-z]+)/`", (ROOT / "CONTRIBUTING.md").read_text().split("## The map of the house")[1].split("At the top:")[0])
    there = {path.name for path in (ROOT / "kevolve").iterdir() if (path / "__init__.py").exists()}
    assert set(named) == there


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement):
    (pinned,) = PINS[requirement.name.lower()].specifier
    assert pinned.operator == "=="
    assert requirement.specifier.contains(pinned.version, prereleases=True)


def test_torch_is_pinned_without_a_build_so_that_any_index_has_it():
    assert str(PINS["torch"].specifier) == "==2.13.0"
