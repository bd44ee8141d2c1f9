"""One sample: a parametrised kernel for a family of formulas, found by comparing graphs, never names.

Templates stand beside this file, one for each language; rendering is a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A kernel family.

    ``patterns``: PyTorch formulas of the same function; a reference whose traced graph equals one of theirs is served.
    ``example``: descriptions of small inputs on which the patterns can be traced by themselves.
    ``constants``: the values that stand in the patterns where a reference has its own (an epsilon), by name.
    ``calls``: library operators that its kernels call, by language; a spec that does not allow them is not served in it.
    ``templates``: template file by language. ``knobs``: by language, the values of each knob; the first is the default.
    """

    name: str
    idea: str
    patterns: tuple[Callable[..., Any], ...]
    example: Callable[[], tuple[Any, ...]]
    templates: Mapping[str, str]
    calls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    knobs: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)

    def defaults(self, language: str) -> dict[str, Any]:
        """The first value of every knob of ``language``."""
        return {name: values[0] for name, values in self.knobs.get(language, {}).items()}

    def render(
        self,
        language: str,
        *,
        entry: str,
        inputs: tuple[str, ...],
        constants: Mapping[str, float],
        knobs: Mapping[str, Any],
        signature: tuple[str, ...] | None = None,
        gradient: bool = False,
    ) -> str:
        """The kernel's source.

        ``entry``: the name of the entry function. ``inputs``: the argument names in the order of the *pattern's* parameters.
        ``signature``: the same names in the order of the reference's parameters, where that differs.
        ``gradient``: with the function of the gradients, where the sample has one.
        ``constants``: real values by name. ``knobs``: values by name; a knob that is not given takes its default.

        Raises ``KeyError`` where the sample has no template in ``language``, ``ValueError`` on names or values it does not have.
        """
        chosen = self.defaults(language) | dict(knobs)
        _expect("knobs", set(self.knobs.get(language, {})), set(chosen))
        _expect("constants", set(self.constants), set(constants))
        _expect("signature", set(inputs), set(signature or inputs))
        template = _environment().get_template(self.templates[language])
        return template.render(
            entry=entry,
            inputs=inputs,
            signature=signature or inputs,
            gradient=gradient,
            constants=dict(constants),
            knobs=chosen,
            idea=self.idea,
            **chosen,
        )


def _expect(what: str, expected: set[str], got: set[str]) -> None:
    if expected != got:
        raise ValueError(f"{what}: expected {sorted(expected)}, got {sorted(got)}")


@cache
def _environment() -> Environment:
    """Jinja as the templates expect it; imported late, because the plugin's import must stay cheap."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701 - the output is C++ or Python, not HTML
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
