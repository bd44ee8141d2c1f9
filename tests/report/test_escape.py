import re

import pytest

from kevolve.report import escape

ATTACKS = [
    "a|b",
    r"a\|b",
    "`code` ``` fence",
    "`",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "two\nlines",
    "two\r\n::error file=a::b",
    "\x1b[2J\x1b[31mred",
    "[link](javascript:alert(1)) ![image](http://tracker.invalid/p.png)",
    "@everyone #1 !1 /merge",
    "\u202egnp.exe",
    "| --- | --- |",
    "&lt;b&gt;",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_span_is_one_line_of_code_that_a_table_cannot_be_left_from(attack):
    shown = escape.span(attack)
    assert "\n" not in shown
    assert "\r" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    if shown.startswith("<code>"):
        inner = shown.removeprefix("<code>").removesuffix("</code>")
        assert not set(re.sub(r"&#\d+;", "", inner)) & set("|`<>[]()*_@!/\\&"), inner
    else:
        fence = re.match(r"`+", shown)[0]
        assert shown.endswith(fence)
        inner = shown[len(fence) : -len(fence)]
        assert fence not in re.findall(r"`+", inner), "nothing inside closes the span"
        assert "|" not in inner


@pytest.mark.parametrize("attack", [*ATTACKS, "```\nout\n```", "~~~\n````\n"])
def test_a_fence_is_longer_than_what_it_holds(attack):
    first, *inner, last = escape.block(attack).split("\n")
    assert first == last
    assert re.fullmatch(r"`{3,}", first)
    assert all(len(run) < len(first) for line in inner for run in re.findall(r"`+", line))
    assert "\x1b" not in "".join(inner)


def test_a_long_text_is_cut_and_the_rest_counted():
    assert escape.block("x" * 5000, most=4000).splitlines()[2] == "… 1,000 more characters"
    assert escape.span("x" * 300, most=10) == "`xxxxxxxxx…`"


def test_no_text_is_no_span():
    assert escape.span("") == ""


def test_a_workflow_command_keeps_to_its_own_line_and_properties():
    assert escape.data("50% of\r\n::error::x") == "50%25 of%0D%0A::error::x"
    assert escape.parameter("a:b,c%\n") == "a%3Ab%2Cc%25%0A"


@pytest.mark.parametrize(
    "line", ["::error::x", "  ::add-mask::secret", "\t::stop-commands::t", "fine ##[error]x", "a\r::error::x", "a\n\n ::error::x"]
)
def test_a_message_in_the_log_gives_the_runner_no_command(line):
    shown = escape.commandless(line)
    assert "##[" not in shown
    assert not any(part.lstrip().startswith("::") for part in re.split(r"[\r\n]", shown))


def test_a_message_without_commands_stays_as_it_is():
    assert escape.commandless("std::vector at a::b\n  1.2x") == "std::vector at a::b\n  1.2x"
