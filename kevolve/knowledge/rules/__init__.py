"""What an outcome says of a kernel, and what to do about it: small functions in a table, one a symptom.

A rule looks at the evidence and says what it sees, or nothing. Rules stand in the order in which they matter; a rule never
looks at another's finding. To add one: write it beside its likes, name it in the module's ``RULES``, and record an outcome that shows it.
"""

from __future__ import annotations

from collections.abc import Callable

from kevolve.knowledge.evidence import Evidence, Finding
from kevolve.knowledge.rules import compiling, numerics, policy, running, siblings, speed

Rule = Callable[[Evidence], Finding | None]

RULES: tuple[Rule, ...] = (*policy.RULES, *compiling.RULES, *running.RULES, *numerics.RULES, *speed.RULES, *siblings.RULES)


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """What the rules see, in their order."""
    return tuple(finding for rule in RULES if (finding := rule(evidence)) is not None)
