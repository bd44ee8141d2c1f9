"""The page of a whole record: its policy, its structure, what it says and how large it is."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from benchmarks.synthetic_record import synthetic
from kevolve.report.html import LIMIT, render
from kevolve.report.record import Record

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
OPTIONAL_END = {"td", "th", "tr", "thead", "tbody", "option", "li"}


class Outline(HTMLParser):
    """Ids, links, headings and elements that were left open."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.links, self.headings, self.tags, self.stack, self.astray = [], [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append((tag, named))
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if tag == "a" else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.stack and self.stack[-1] != tag and self.stack[-1] in OPTIONAL_END:
            self.stack.pop()
        if self.stack and self.stack[-1] == tag:
            self.stack.pop()
        else:
            self.astray.append((tag, self.stack[-3:]))


@pytest.fixture(scope="module")
def page():
    return render(synthetic(6, nodes=10, lines=30))


@pytest.fixture(scope="module")
def outline(page):
    return Outline(page)


def test_every_element_is_closed_where_it_was_opened(outline):
    assert outline.astray == []
    assert outline.stack == []


def test_ids_are_unique_and_every_link_leads_to_one(outline):
    assert len(outline.ids) == len(set(outline.ids))
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)


def test_headings_start_at_one_and_skip_no_level(outline):
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))


def test_every_table_has_a_caption_or_stands_in_a_named_region_and_headings_say_their_scope(page, outline):
    regions = [named for tag, named in outline.tags if named.get("role") == "region"]
    assert all("aria-label" in named or "aria-labelledby" in named for named in regions)
    assert all(named.get("tabindex") == "0" for named in regions)
    assert all(named.get("scope") in ("col", "row") for tag, named in outline.tags if tag == "th")
    assert {"header", "main", "nav", "footer"} <= {tag for tag, _ in outline.tags}
    assert page.count("<table") <= page.count("<caption") + page.count('class="diff"')


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(page):
    policy = re.search('Content-Security-Policy" content="([^"]+)"', page)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for element, rule in (("style", "style-src"), ("script", "script-src")):
        content = re.search(f"<{element}>(.*?)</{element}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_nothing_on_the_page_comes_from_elsewhere(page, outline):
    assert not {"src", "srcset", "data", "action", "style"} & {name for _, named in outline.tags for name in named}
    assert "url(" not in page
    assert "http://" not in page
    assert "@import" not in page


def test_a_record_says_what_failed_first_and_names_its_replay_line(full):
    page = render(full)
    assert "3 of 7 tests passed" not in page
    title = re.search("<h1[^>]*>(.*?)</h1>", page)[1]
    assert "failed" in title
    assert "regressed" in title
    first = re.search("<tbody>.*?</tr>", page, re.DOTALL)[0]
    assert "wrong" in re.search('<tr class="(\\w+)"', first)[1]
    assert "Gate:</b> 1 slower, 1 grown, 1 removed, 1 new" in page
    assert "Removed: gelu (cpu)" in page


def test_a_failure_shows_its_whole_message_and_the_line_that_replays_it():
    record = synthetic(30, seed=3)
    wrong = next(row for row in record.results if row.status == "INCORRECT_NUMERICAL")
    page = render(record)
    assert "3 of 37 elements differ, the worst at (0, 36): expected 1.25, got 0.0" in page
    assert f'<pre class="replay" tabindex="0">pytest &#39;suites/test_{wrong.spec}.py::test_{wrong.spec}[properties]&#39;' in page


def test_a_record_without_rows_is_a_page(record):
    page = render(Record(environment=record.environment))
    assert "Nothing was run" in page
    assert "Nothing was timed" in page
    assert Outline(page).astray == []


def test_two_devices_and_several_dates_stand_side_by_side(record):
    later = replace(record.environment, date="2026-02-02T03:04:05Z")
    other = replace(record.environment, device="Other One", date="2026-02-02T03:04:05Z")
    again = tuple(replace(row, extra={**row.extra, "environment": index}) for index in (1, 2) for row in record.results)
    page = render(replace(record, results=(*record.results, *again), environments=(record.environment, later, other)))
    assert page.count('<section class="kernel') == 6  # three specs on each of two devices
    assert page.count("Latency over time") == 2  # of the two specs that were timed
    assert "2026-01-02" in page
    assert "Other One" in page


def test_free_fields_of_any_shape_make_no_page_fail(record):
    ahead = tuple(replace(row, extra={"ahead": "1 kernel compiled ahead"}) for row in record.results)
    assert "1 kernel compiled ahead" in render(replace(record, results=ahead))
    odd = {"values": [1, 2], "resources": "many", "work": {"bytes": "x"}, "min_speedup": "fast", "environment": 99, "unavailable": 3}
    rows = tuple(replace(row, extra=odd) for row in record.results)
    peaks = {"bandwidth": [1, "x"], "operations": 5}
    place = replace(record.environment, versions={"kevolve": 3}, toolchain={"cpp": "g++"}, extra={"peaks": peaks})
    assert Outline(render(replace(record, results=rows, environment=place))).astray == []


def test_three_hundred_kernels_stay_below_two_megabytes_and_say_what_is_left_out():
    page = render(synthetic(300, 5, 20))
    assert len(page.encode()) <= LIMIT == 2_000_000
    assert page.count('<section class="kernel') == 300
    assert page.count("<tr", page.index('id="table"'), page.index('id="light"')) >= 1_501
    assert "Left out to keep the page small" in page
    assert page.count('class="heat"') == 300


def test_a_source_of_ten_megabytes_does_not_fill_the_page():
    record = synthetic(2, nodes=4)
    sources = {name: source * 400 for name, source in record.sources.items()}
    page = render(replace(record, sources=sources))
    assert len(page.encode()) <= LIMIT
    assert "more characters are in the record" in page


def test_the_same_record_makes_the_same_page():
    assert render(synthetic(3)) == render(synthetic(3))
