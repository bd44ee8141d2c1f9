"""From paired times of the old and the new kernel to faster, same, slower or "cannot be told". Pure: no clock, no device.

Ratios are the old kernel's time over the new one's, as a speedup: 0.95 is 5% slower. ``docs/gate.md`` has the rates of these rules.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kevolve.evaluate.statistics import Interval
from kevolve.targets import BlockPolicy

LAUNCHED, REPLAYED = "launched", "replayed"
_ANYHOW = 8  # times the first pairs: a look goes on beyond them only where it seems to see a slowdown


class Finding(enum.Enum):
    """What one look at a kernel says."""

    FASTER = "faster"
    SAME = "same"
    SLOWER = "slower"
    UNCLEAR = "unmeasurable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """``allowance``: the slowdown that passes, a share of the old time. ``widest``: the slowdown that "same" must exclude."""

    allowance: float = 0.02
    widest: float = 0.10

    @property
    def least(self) -> float:
        """The ratio of a kernel that is slower by just the allowance."""
        return 1 / (1 + self.allowance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Pairs of one set of processes. ``ratios``, ``old_us``, ``new_us``: by form, ``replayed`` only where both sides could be captured.

    ``log_ratios``: by form, one a pair: what the intervals are made of.
    """

    ratios: Mapping[str, Interval]
    old_us: Mapping[str, float]
    new_us: Mapping[str, float]
    pairs: int
    method: str = ""
    log_ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def form(self) -> str:
        """The form that decides: as launched where that is slower beyond doubt, else replayed where there is such a time."""
        return REPLAYED if REPLAYED in self.ratios else LAUNCHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the looks come to. ``look`` and ``form`` are those reported; ``first``: the one that another look followed."""

    finding: Finding
    look: Look
    form: str
    first: Look | None = None
    reason: str = ""

    @property
    def ratio(self) -> Interval:
        """Of the form that decides."""
        return self.look.ratios[self.form]


def finding(ratio: Interval, rules: Rules) -> Finding:
    """Slower or faster only where the whole interval lies beyond the allowance; the same only where it excludes a large slowdown."""
    if ratio.high < rules.least:
        return Finding.SLOWER
    if ratio.low > 1 + rules.allowance:
        return Finding.FASTER
    return Finding.UNCLEAR if ratio.low < 1 / (1 + rules.widest) else Finding.SAME


def slower_forms(look: Look, rules: Rules) -> list[str]:
    """The forms in which the new kernel is slower, the one that decides first."""
    return [form for form in _ordered(look) if finding(look.ratios[form], rules) is Finding.SLOWER]


def undecided(look: Look, rules: Rules) -> bool:
    """Whether more pairs could change what is said: nothing is slower yet, and a slowdown beyond the allowance is not excluded."""
    return not slower_forms(look, rules) and look.ratios[look.form].low < rules.least


def wants_more(look: Look, rules: Rules, *, first: int, policy: BlockPolicy) -> bool:
    """Whether a look goes on: it is undecided, and has fewer than ``policy.extension`` times its ``first`` pairs.

    Noise about equal kernels is no reason for the last doublings: they are for an estimate that is slower by half the allowance or more.
    What is not slower is not said of fewer than ``policy.least`` times the first pairs.
    """
    if look.pairs < first * policy.least and not slower_forms(look, rules):
        return True
    if look.pairs >= first * policy.extension or not undecided(look, rules):
        return False
    return look.pairs < first * _ANYHOW or look.ratios[look.form].estimate < 1 / (1 + rules.allowance / 2)


def judge(looks: Sequence[Look], rules: Rules) -> Judgement:
    """What one look, or a look that said "slower" and its confirmation in fresh processes, come to.

    A slowdown counts in the forms that both looks show it in. Its size is the second look's, which nobody selected. Raises
    ``ValueError`` for no look, or for a single one that says "slower".
    """
    first, last = looks[0], looks[-1]
    slow = [form for form in slower_forms(last, rules) if form in slower_forms(first, rules)]
    if slow and len(looks) == 1:
        raise ValueError("a slowdown: expected a second look in fresh processes, got one look")
    if slow:
        return Judgement(finding=Finding.SLOWER, look=last, form=slow[0], first=first)
    return _unslowed(looks, rules)


def _unslowed(looks: Sequence[Look], rules: Rules) -> Judgement:
    first, look = looks[0], looks[-1]
    found = finding(look.ratios[look.form], rules)
    again = first if len(looks) > 1 else None
    if found is Finding.SLOWER:  # in another form than the first look
        return Judgement(finding=Finding.UNCLEAR, look=look, form=look.form, first=again, reason="two looks disagree on what is slower")
    if found is Finding.UNCLEAR:
        return Judgement(finding=found, look=look, form=look.form, first=again, reason=noise(look.ratios[look.form], rules))
    reason = "a first look said slower, which fresh processes did not confirm" if again is not None else ""
    return Judgement(finding=found, look=look, form=look.form, first=again, reason=reason)


def noise(ratio: Interval, rules: Rules) -> str:
    """Why an interval tells nothing."""
    return f"noise: the interval [{ratio.low:.3f}, {ratio.high:.3f}] does not exclude a slowdown of {rules.widest:.0%}"


def _ordered(look: Look) -> Iterable[str]:
    return sorted(look.ratios, key=lambda form: (form != look.form, form))
