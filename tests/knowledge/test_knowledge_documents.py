from __future__ import annotations

import pytest

from kevolve.knowledge.documents import BadDocument, parse, read_tree
from tests.knowledge.trees import document, write


def read(text, tmp_path, id="guidance/x"):
    return parse(text, tmp_path / "x.md", id)


def test_a_document_is_its_front_matter_and_its_text(tmp_path):
    found = read(
        document("# Heading\n\nText.", vendor="[nvidia, amd]", languages="[triton]", source="[https://a.b, https://c.d]"), tmp_path
    )
    assert (found.id, found.title, found.vendor, found.languages) == ("guidance/x", "A title", ("nvidia", "amd"), ("triton",))
    assert found.source == ("https://a.b", "https://c.d")
    assert found.text == "# Heading\n\nText.\n"
    assert found.tokens == 5


def test_any_vendor_is_no_scope(tmp_path):
    assert read(document(vendor="any"), tmp_path).vendor == ()


@pytest.mark.parametrize(
    "fields, said",
    [
        (dict(bottlenecks="[memry]"), r"x\.md:8: bottlenecks: expected of memory, .*, got \['memry'\]"),
        (dict(topic="advice"), r"x\.md:7: topic: expected one of constraints, .*, got 'advice'"),
        (dict(vendor="nvida"), r"x\.md:3: vendor: expected of any, nvidia, .*, got 'nvida'"),
        (dict(title="''"), r"x\.md:2: title: expected a line of text, got ''"),
        (dict(source="[]"), r"x\.md:10: source: expected where it is from"),
        (dict(phases="3"), r"x\.md:9: phases: expected a list of words, got 3"),
        (dict(architectures="[sm9000]"), r"x\.md:4: architectures: expected of sm80, .*, got \['sm9000'\]"),
        (dict(vendor="amd", architectures="[sm90]"), r"x\.md:4: architectures: expected of gfx942, gfx950, got \['sm90'\]"),
        (dict(colour="red"), r"x\.md:12: colour: expected no field of this name"),
        (dict(title="a: b: c"), r"x\.md:2: the front matter is no YAML: mapping values are not allowed"),
        (dict(evidence="hope"), r"x\.md:11: evidence: expected one of sample, measured, got 'hope'"),
    ],
)
def test_a_wrong_field_is_an_error_that_names_file_line_and_what_was_expected(fields, said, tmp_path):
    with pytest.raises(BadDocument, match=said):
        read(document(**fields), tmp_path)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", r"x\.md: is empty"),
        ("# No front matter\n", r"x\.md:1: expected front matter, a line '---' first, got '# No front matter'"),
        ("---\ntitle: x\n", r"x\.md: the front matter has no end"),
        ("---\n- a\n---\ntext\n", r"x\.md:2: expected `name: value` lines as front matter, got list"),
        (document(""), r"expected a text below the front matter"),
    ],
)
def test_a_text_without_its_form_is_an_error(text, said, tmp_path):
    with pytest.raises(BadDocument, match=said):
        read(text, tmp_path)


def test_a_tree_is_read_with_ids_below_it_and_without_its_index(tmp_path):
    write(tmp_path, guidance__b=document(), samples__scan__a=document(), index="# Index\n")
    assert [found.id for found in read_tree(tmp_path)] == ["guidance/b", "samples/scan/a"]


def test_a_document_outside_the_kinds_is_an_error(tmp_path):
    write(tmp_path, notes__a=document())
    with pytest.raises(BadDocument, match=r"a\.md: expected its first folder to be one of constraints, .*, got 'notes'"):
        read_tree(tmp_path)


def test_a_users_accelerator_is_known_by_its_folder(tmp_path):
    write(
        tmp_path,
        hardware__acme__basics=document(vendor="acme", architectures="[a1]"),
        languages__acmec__basics=document(languages="[acmec]"),
    )
    assert [found.vendor for found in read_tree(tmp_path)] == [("acme",), ()]
