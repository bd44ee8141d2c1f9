"""Parse, policy and normalise on the syntax tree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kevolve.languages import python_source
from kevolve.languages.python_source import Rules, words

RULES = Rules(
    imports=words("lib math"),
    name=lambda dotted: dotted.startswith("math.") or dotted in ("lib.make", "lib.device"),
    attributes=words("shape append"),
    device=words("lib.device"),
    decorators=words("lib.device staticmethod"),
    constants=words("float math.sqrt"),
)


def test_a_plain_entry_function_parses() -> None:
    assert python_source.parse("def f(x):\n    return x\n", "f") is None


@pytest.mark.parametrize(
    "source, message",
    [
        ("def f(x:\n    return x\n", "line 1, column 6: '(' was never closed: 'def f(x:'"),
        ("def g(x):\n    return x\n", "no entry function: expected `def f(…)` at the top level, found g"),
        ("f = 1\n", "no entry function: expected `def f(…)` at the top level, found no function"),
        ("class A:\n    def f(x): return x\n", "no entry function: expected `def f(…)` at the top level, found no function"),
        ("", "no entry function: expected `def f(…)` at the top level, found no function"),
        (
            "import lib\n@lib.device\ndef f(x):\n    return x\n",
            "line 3: f is device code; expected a Python function that allocates the outputs and launches it",
        ),
    ],
)
def test_what_does_not_parse_is_said_with_its_place(source: str, message: str) -> None:
    assert python_source.parse(source, "f", device=RULES.device) == message


@pytest.mark.parametrize("source", ["def f(): return 1\0", "def f(): return " + "-" * 3000 + "1", "x = " + "(" * 500 + ")" * 500])
def test_hostile_text_is_a_message_and_not_an_exception(source: str) -> None:
    assert python_source.parse(source, "f") is not None


def test_texts_that_differ_in_comments_docstrings_and_layout_are_equal() -> None:
    plain = "def f(x):\n    return x + 1\n\nclass A:\n    pass\n"
    dressed = '# header\n"""Module."""\ndef f( x ):\n    """Doc."""\n    # why\n    return (x\n      + 1)\nclass A:\n    """Doc."""\n'
    assert python_source.normalise(plain) == python_source.normalise(dressed)


def test_texts_that_differ_in_a_constant_are_not_equal() -> None:
    assert python_source.normalise("def f(x): return x + 1") != python_source.normalise("def f(x): return x + 2")


@pytest.mark.parametrize("source", ["def f(x:", "x = " + "(" * 5000, "a\0b"])
def test_a_text_that_does_not_parse_is_a_duplicate_of_itself_only(source):
    assert python_source.normalise(source) == source


def test_many_threads_may_parse_at_once():
    source = "x = " + "+".join(["(1 + f(2))"] * 300)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: python_source.parse(source + "\ndef f(x):\n    return x\n", "f"), range(40))) == {None}


@pytest.mark.parametrize(
    "source",
    [
        "import math\nimport lib as l\nSCALE = math.sqrt(2.0)\nINF = float('inf')\ndef f(x):\n    return l.make(x.shape)",
        "from lib import device, make\n@device\ndef k(x):\n    return x.anything.at_all()\ndef f(x):\n    return make(x.shape)",
        "def f(x):\n    kept = []\n    kept.append(x)\n    try:\n        return kept[0]\n    except ValueError:\n        raise",
        "class State:\n    def __init__(self):\n        self.x = 1\n    @staticmethod\n    def g(ctx):\n        ctx.y = 2",
        "def f(input, type, id):\n    return input",
    ],
)
def test_an_ordinary_kernel_file_is_allowed(source: str) -> None:
    assert python_source.policy(source, RULES) is None


@pytest.mark.parametrize(
    "source, problem",
    [
        ("import os", "line 1: import of os; a kernel may import lib, math"),
        ("def f():\n    import subprocess as s", "line 2: import of subprocess; a kernel may import lib, math"),
        ("from . import lib", "line 1: import of .; a kernel may import lib, math"),
        ("from lib import *", "line 1: `from lib import *` hides what is used"),
        ("from lib import softmax\ndef f(x): return softmax(x)", "line 2: lib.softmax is not among what a kernel may use as a value"),
        ("import lib\ndef f(x): return lib.nn.softmax(x)", "line 2: lib.nn.softmax is not among what a kernel may use"),
        ("import lib\ndef f(x): t = lib", "line 2: lib is not among what a kernel may use as a value"),
        ("import lib\ndef f(x): lib.make = f", "line 2: assigns to lib.make, which belongs to an imported module"),
        ("import lib\ndef f(x): del lib.make", "line 2: assigns to lib.make, which belongs to an imported module"),
        ("from lib import make\ndef f(x):\n    make = x", "line 3: assigns to the imported name make"),
        ("def f(x): x.shape = 1", "line 1: assigns to the attribute .shape"),
        ("def f(x): return eval('x')", "line 1: eval: a kernel needs none of it"),
        ("def f(x): return getattr(x, 'y')", "line 1: getattr: a kernel needs none of it"),
        ("def f(x): return x.__class__", "line 1: __class__: a kernel needs no Python internals"),
        ("def f(x): return __builtins__", "line 1: __builtins__: a kernel needs no Python internals"),
        ("def __getattr__(name): return 1", "line 1: __getattr__: a kernel needs no Python internals"),
        ("def f(x): return x @ x", "line 1: `@` does the kernel's work by the library"),
        ("def f(x):\n    global y\n    y = x", "line 2: `global y` keeps state between calls"),
        ("CACHE = {}\ndef f(x): CACHE[x.shape] = x", "line 2: CACHE[…] keeps state between calls"),
        ("async def f(x): return x", "line 1: async function f"),
        ("import lib\n@lib.make\ndef f(x): return x", "line 3: decorator lib.make"),
        ("import lib\nX = lib.make(1)", "line 2: calls lib.make at import; only constants, functions and classes may stand there"),
        (
            "for i in range(3):\n    pass",
            "line 1: `for i in range(3):` runs at import; only constants, functions and classes may stand there",
        ),
        ("class A:\n    print(1)", "line 1: `print(1)` runs at import; only constants, functions and classes may stand there"),
    ],
)
def test_each_thing_that_is_not_allowed_is_named_with_its_line(source: str, problem: str) -> None:
    refused = python_source.policy(source, RULES)
    assert refused is not None
    assert problem in refused.splitlines()


def test_a_method_of_a_tensor_is_refused_in_host_code_only() -> None:
    source = "import lib\n@lib.device\ndef k(x): return x.sum()\ndef f(x): return x.sum()"
    expected = "line 4: .sum is not among what host code may use of a tensor (allocation, views, metadata, contiguous)"
    assert python_source.policy(source, RULES) == expected


def test_many_problems_are_cut_to_five() -> None:
    refused = python_source.policy("\n".join(f"import m{i}" for i in range(9)), RULES)
    assert refused is not None
    assert refused.splitlines()[4:] == ["line 5: import of m4; a kernel may import lib, math", "and 4 more"]


@pytest.mark.parametrize(
    "source, line",
    [
        ("def f(x):\n    open = x.shape[0]\n    while open > 0:\n        open -= 1\n    return x\n", None),
        ("def f(open):\n    return open\n", None),
        ("def f(x):\n    return open('a')\n", 2),
        ("def f(x):\n    g = [1 for open in (1, 2)]\n    return open\n", 3),
        ("def f(x):\n    def g():\n        open = 1\n        return open\n    return open\n", 5),
        ("open = 3\ndef f(x):\n    return open\n", 3),
        ("class C:\n    open = open\n", 2),
        ("import lib\n@lib.device\ndef f(x):\n    if x is None:\n        open = 1\n    return open('a')\n", 6),
    ],
)
def test_a_functions_variable_may_have_a_builtins_name(source: str, line: int | None) -> None:
    assert python_source.policy(source, RULES) == (None if line is None else f"line {line}: open: a kernel needs none of it")
