"""The page in a headless Chromium: nothing in the console, nothing wider than a phone, contrast, keyboard, attacks that must not run."""

import re

import pytest
from attacks import ATTACKS
from attacks import record as attacked

from benchmarks import chromium
from benchmarks.synthetic_record import synthetic
from kevolve.report.html import render

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium on the path: install chromium to check the page in it")

LOOKS = [(1400, False), (1400, True), (390, False), (390, True)]
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true })"
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((part, index) => index < 3 ? part : part / 255);
  };
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || ["SCRIPT", "STYLE", "TITLE", "title"].includes(element.tagName) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color), paper = behind(element);
    const [high, low] = [light(ink), light(paper)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) {
      found.set(`${element.tagName}.${element.getAttribute("class")} ${ratio.toFixed(2)} ${node.data.trim().slice(0, 20)}`, 1);
    }
  }
  return [...found.keys()].slice(0, 20);
})()"""
WIDE = """[...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !one.closest(".scroll, pre, nav, .vh, svg");
}).slice(0, 10).map((one) => `${one.tagName}.${one.className}`)"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = chromium.Chromium(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(synthetic(8, nodes=12, lines=40)), encoding="utf-8")
    return path


@pytest.mark.parametrize("width, dark", LOOKS)
def test_the_console_stays_silent_and_nothing_is_requested(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    browser.run(OPEN_ALL)
    assert browser.errors == []
    assert browser.run("performance.getEntriesByType('resource').length") == 0


def test_errors_of_a_page_are_heard(browser, tmp_path):
    path = tmp_path / "wrong.html"
    path.write_text("<script>console.error('one'); missing()</script>", encoding="utf-8")
    browser.open(path)
    assert len(browser.errors) == 2


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_window(browser, page, width):
    browser.open(page, width=width)
    browser.run(OPEN_ALL)
    assert browser.run(WIDE) == []
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width, dark", LOOKS)
def test_all_text_has_a_contrast_of_four_and_a_half(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    browser.run(OPEN_ALL)
    assert browser.run(CONTRAST) == []


def test_grey_on_white_is_found_to_have_too_little_contrast(browser, tmp_path):
    path = tmp_path / "grey.html"
    path.write_text("<p>black</p><p style='color:#999'>grey</p>", encoding="utf-8")
    browser.open(path)
    assert browser.run(CONTRAST) == ["P.null 2.85 grey"]


def test_the_page_follows_the_preferred_colours_and_the_button_turns_them(browser, page):
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(page, dark=True)
    night = browser.run(paper)
    browser.run("document.getElementById('theme').click()")
    day = browser.run(paper)
    browser.open(page, dark=False)
    assert browser.run(paper) == day != night
    browser.run("document.getElementById('theme').click()")
    assert browser.run(paper) == night


def test_the_keyboard_reaches_skip_link_filter_sorting_and_folds(browser, page):
    browser.open(page, width=1400)
    reached, rings = [], []
    for _ in range(120):
        browser.press("Tab")
        said = browser.run("(({ tagName, id, parentElement }) => `${tagName}#${id}<${parentElement?.tagName}`)(document.activeElement)")
        if said.startswith("BODY"):
            break
        reached.append(said)
        rings.append(browser.run("getComputedStyle(document.activeElement).outlineStyle"))
    assert reached[0] == "A#<BODY"
    for wanted in ("BUTTON#theme<", "INPUT#find<", "SELECT#target<", "SELECT#state<", "BUTTON#<TH", "SUMMARY#<DETAILS", "DIV#<SECTION"):
        assert any(one.startswith(wanted) for one in reached), wanted
    assert set(rings) <= {"solid", "auto"}


def test_the_keyboard_opens_a_fold_and_sorts_the_table(browser, page):
    browser.open(page, width=1400)
    browser.run("document.querySelector('.kernel > details:not([open]) > summary').focus()")
    closed = browser.run("document.querySelectorAll('.kernel > details[open]').length")
    browser.press("Enter")
    assert browser.run("document.querySelectorAll('.kernel > details[open]').length") == closed + 1
    browser.run("document.querySelectorAll('#table thead button')[4].focus()")
    times = "[...document.querySelectorAll('#table tbody tr')].map((row) => parseFloat(row.cells[4].textContent)).filter((us) => us)"
    browser.press("Enter")
    assert browser.run(times) == sorted(browser.run(times))
    browser.press("Enter")
    assert browser.run(times) == sorted(browser.run(times), reverse=True)
    assert browser.run("document.querySelectorAll('#table thead th')[4].getAttribute('aria-sort')") == "descending"


def test_the_filters_leave_what_fits_and_say_how_many(browser, page):
    browser.open(page, width=1400)
    shown = "[...document.querySelectorAll('#table tbody tr:not([hidden])')].map((row) => row.cells[0].textContent)"
    everything = len(browser.run(shown))
    browser.run("document.getElementById('find').focus()")
    for key in "operator_003":
        browser.press(key)
    assert set(browser.run(shown)) == {"operator_003_forward"}
    assert browser.run("document.getElementById('shown').textContent") == f"{len(browser.run(shown))} of {everything}"
    browser.run("(find => { find.value = ''; find.dispatchEvent(new Event('input')) })(document.getElementById('find'))")
    browser.run("(one => { one.value = 'cpu'; one.dispatchEvent(new Event('input')) })(document.getElementById('target'))")
    assert set(browser.run(shown)) == {f"operator_{number:03d}_forward" for number in range(0, 8, 3)}
    browser.run("(one => { one.value = 'passed'; one.dispatchEvent(new Event('input')) })(document.getElementById('state'))")
    assert 0 < len(browser.run(shown)) < everything


def test_everything_is_there_without_javascript(browser, page):
    browser.open(page, javascript=False)
    try:
        root = browser.send("DOM.getDocument", depth=0)["root"]["nodeId"]
        rows = browser.send("DOM.querySelectorAll", nodeId=root, selector="#table tbody tr")["nodeIds"]
        assert len(rows) >= 40
        hidden = browser.send("DOM.querySelectorAll", nodeId=root, selector="#theme[hidden], #filter[hidden]")["nodeIds"]
        assert len(hidden) == 2  # what would do nothing is not shown
        tree = browser.send("Accessibility.getFullAXTree")["nodes"]
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    roles = {node["role"]["value"] for node in tree if not node.get("ignored")}
    assert {"main", "banner", "navigation", "contentinfo", "table", "heading"} <= roles
    names = "\n".join(str(node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored"))
    names = names.replace(" ", "")  # names may break after underscores
    assert all(f"operator_{number:03d}_forward" in names for number in range(8))
    assert "Environmentandmethod" in names


def test_no_attack_runs(browser, tmp_path):
    for number, attack in enumerate([*ATTACKS, "".join(ATTACKS)]):
        path = tmp_path / f"{number}.html"
        path.write_text(render(attacked(attack)), encoding="utf-8")
        browser.open(path, width=390)
        browser.run(OPEN_ALL)
        browser.run(
            "document.querySelectorAll('main *').forEach((one) => one.dispatchEvent(new MouseEvent('mouseover', { bubbles: true })))"
        )
        assert browser.run("document.title") != "taken", attack
        assert browser.errors == [], attack
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), attack
        assert browser.run("getComputedStyle(document.body).display") == "block", attack


def test_an_attack_that_is_not_escaped_is_stopped_by_the_policy_and_heard(browser, page, tmp_path):
    path = tmp_path / "unescaped.html"
    text = page.read_text(encoding="utf-8")
    path.write_text(text.replace("<main", ATTACKS[0] + "<img src=x onerror=\"document.title='taken'\"><main", 1), encoding="utf-8")
    browser.open(path)
    assert browser.run("document.title") != "taken"
    assert any(re.search("Content Security Policy", error) for error in browser.errors)


def test_a_link_of_the_table_opens_its_kernel_and_scrolls_to_it(browser, page):
    browser.open(page, width=1400)
    browser.run("document.querySelector('#table tbody tr:last-child a').click()")
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.run("document.querySelector(location.hash + ' > details').open")
    assert 0 <= browser.run("document.querySelector(location.hash).getBoundingClientRect().top") < browser.run("innerHeight")
