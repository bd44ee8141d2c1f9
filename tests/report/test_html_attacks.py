"""Texts of kernels, models and tests that attack the page: escaped everywhere, whatever they are."""

import re
from html.parser import HTMLParser

import pytest
from attacks import ATTACKS, MARK, record
from hypothesis import given, settings
from hypothesis import strategies as st

from kevolve.report.html import render

HANDLER = re.compile(r"\bon\w+$")
OURS = {"html", "head", "meta", "title", "style", "script", "body"} | set(
    "a header p nav button main section"
    " h1 h2 h3 h4 h5 ul ol li b i span svg rect g line circle path text dl div dt dd figure figcaption em "
    "form label input select option output table caption thead tbody tr th td details summary pre code footer wbr".split()
)


class Tags(HTMLParser):
    """Every element with its attributes, and the text of those that hold no markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found, self.raw = [], {"script": [], "style": [], "title": []}
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open in self.raw:
            self.raw[self._open].append(data)


@pytest.fixture(scope="module")
def harmless():
    return Tags(render(record("harmless")))


@pytest.mark.parametrize("attack", ATTACKS, ids=[re.sub(r"\W+", "-", attack.encode("ascii", "ignore").decode())[:40] for attack in ATTACKS])
def test_an_attack_in_every_text_adds_no_element_and_no_attribute(attack, harmless):
    page = render(record(attack))
    tags = Tags(page)
    assert [tag for tag, _ in tags.found if tag != "wbr"] == [tag for tag, _ in harmless.found if tag != "wbr"]
    for tag, attributes in tags.found:
        assert tag in OURS or tag in ("title", "text"), tag
        assert not [name for name in attributes if HANDLER.match(name)], attributes
        assert "style" not in attributes
        assert attributes.get("href", "#").startswith("#"), attributes
        assert not {"src", "srcset", "srcdoc", "action", "formaction", "data", "poster", "xlink:href"} & set(attributes)
    assert tags.raw["script"] == harmless.raw["script"]
    assert tags.raw["style"] == harmless.raw["style"]


def test_the_attacks_are_seen_by_this_test_where_nothing_escapes_them():
    found = Tags("".join(ATTACKS[:9])).found
    assert any(tag == "script" for tag, _ in found)
    assert any(HANDLER.match(name) for _, attributes in found for name in attributes)
    assert MARK in ATTACKS[0]


@pytest.mark.parametrize("text", ["\x00", "\x1b[31m", "\x9b1m", "\u202e", "\u2066", "\u200b", "\ud800", "\ufeff", "\u2028"])
def test_what_cannot_be_seen_is_written_out(text):
    page = render(record(f"before{text}after"))
    hidden = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
    assert hidden.search(page) is None
    assert page.encode()  # halves of pairs have no encoding
    assert re.search("before[␀␛⟨]", page)


def test_template_syntax_in_a_text_is_text():
    page = render(record("{{ 7 * 7 }}{% raw %}"))
    assert "{{ 7 * 7 }}{% raw %}" in page


def test_a_very_long_name_is_cut_and_a_very_long_source_says_how_long_it_was():
    page = render(record("n" * 300_000))
    assert len(page.encode()) < 2_000_000
    assert re.search("n" * 61, page.split("<tbody>", 1)[1].split("</tbody>", 1)[0].replace("n" * 120, "")) is None
    assert "more characters are in the record" in page


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_characters="\n"), max_size=60))
def test_no_text_at_all_changes_the_elements(text):
    expected = [tag for tag, _ in Tags(render(record("harmless"))).found if tag != "wbr"]
    assert [tag for tag, _ in Tags(render(record(f"x{text}"))).found if tag != "wbr"] == expected
