"""How often verdicts are wrong, by resampling process pairs that were recorded: equal kernels called slower, slowdowns not found.

``record`` times unchanged and slowed-down C++ kernels of about 5, 38 and 130 us on this CPU through the gate, in the format of
``benchmarks/gate_gpu.py``, and notes what else the machine did; ``resample`` takes such files (of any device) and simulates the rules
as they are: seven pairs; in other processes as many again, and on a CPU up to 32 times as many, while that leaves the verdict open; a
second look from the start; the scatter between processes; and what is said of two looks (``kevolve.gate.verdict``). Likewise an ordinary
run against ``min_speedup``, which takes fourteen pairs at the most.

Seven pairs of one look share their processes, or at least their minute: they stay together. A simulated look draws a recorded block of
seven, and its pairs with replacement from that block (residuals widened by sqrt(7/6), which such drawing loses); both forms of a pair stay
together. Kernels of a part are the same text, so that the true log ratio is 0: the mean over all blocks is taken off. A block's own mean
stays, scaled to the variance between blocks without what seven pairs scatter by themselves ("estimated"; where that is none, none); as
recorded, and twice that, are beside. A slowdown is subtracted from every log ratio.
Usage: ``python -m benchmarks.verdicts record --json cpu.json [--count 40]``;
``python -m benchmarks.verdicts resample FILE… [--verdicts 10000] [--json PATH] [--out docs/statistics.md]``
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, stdev
from typing import Any

from tabulate import tabulate

from benchmarks.documents import command, put
from kevolve.evaluate.outcome import Status
from kevolve.evaluate.statistics import FEWEST_PAIRS, Interval, Shared, interval, student_quantile
from kevolve.evaluate.statistics import undecided as open_verdict
from kevolve.evaluate.statistics import verdict as ordinary_verdict
from kevolve.evaluate.timing import LITTLE
from kevolve.gate.verdict import LAUNCHED, Finding, Look, Rules, judge, slower_forms, wants_more
from kevolve.targets import BlockPolicy
from kevolve.targets.cpu import CPU
from kevolve.targets.cuda import CUDA

SLOWDOWNS = (0.01, 0.03, 0.05, 0.10, 0.15)
FALSE_ALARMS, FOUND = 1e-3, 0.99  # what is asked: at most, at least
Pair = Mapping[str, float]  # log ratios by form


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The pairs of one part of a file, in blocks that stay together."""

    part: str
    us: Mapping[str, float]
    blocks: Sequence[Sequence[Pair]]
    shared: Mapping[str, Shared]
    verdicts: Mapping[str, int]  # of the real runs
    wanted: float
    policy: BlockPolicy = CUDA.blocks
    rebuilt: bool = False  # pairs made from intervals: their own were not kept
    quiet: str = ""

    @property
    def pairs(self) -> int:
        """How many."""
        return sum(map(len, self.blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One row: what the rule says how often. ``bound``: 95%, of the share that is wrong."""

    device: str
    part: str
    us: float
    rule: str
    slowdown: float
    between: float | None  # how far the blocks were put apart; see ``Simulated``
    verdicts: int
    slower: int
    unmeasurable: int
    bound: float
    asked: bool = False

    @property
    def right(self) -> bool:
        """Whether what is asked holds."""
        if not self.asked:
            return True
        return self.slower <= FALSE_ALARMS * self.verdicts if not self.slowdown else self.slower >= FOUND * self.verdicts


@dataclass(slots=True)
class Simulated:
    """Looks drawn from recorded blocks."""

    recorded: Recorded
    rng: random.Random
    shift: float = 0.0
    between: float | None = None  # times as far apart as the blocks' means were recorded; None: as estimated
    centre: Mapping[str, float] = field(init=False)
    apart: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        means = [_means(block) for block in self.recorded.blocks]
        self.centre = {form: math.fsum(mean[form] for mean in means) / len(means) for form in means[0]}
        self.apart = {form: estimated(self.recorded.blocks, form) if self.between is None else self.between for form in means[0]}

    def seven(self) -> list[dict[str, float]]:
        """Seven pairs of one block."""
        block = self.rng.choice(self.recorded.blocks)
        mean, widen = _means(block), math.sqrt(len(block) / (len(block) - 1))
        base = {form: self.apart[form] * (mean[form] - self.centre[form]) - self.shift for form in mean}
        drawn = self.rng.choices(block, k=FEWEST_PAIRS)
        return [{form: base[form] + widen * (pair[form] - mean[form]) for form in mean} for pair in drawn]

    def look(self, rules: Rules) -> Look:
        """A gate's look."""
        pairs = self.seven()
        look = self._read(pairs)
        while wants_more(look, rules, first=FEWEST_PAIRS, policy=self.recorded.policy):
            pairs += self._more(len(pairs))
            look = self._read(pairs)
        return look

    def speedup(self, asked: float) -> Interval:
        """An ordinary run's."""
        pairs = self.seven()
        found = self._interval(pairs, LAUNCHED)
        return self._interval(pairs + self.seven(), LAUNCHED) if open_verdict(found, asked) else found

    def _more(self, count: int) -> list[dict[str, float]]:
        return [pair for _ in range(count // FEWEST_PAIRS) for pair in self.seven()]

    def _read(self, pairs: Sequence[Pair]) -> Look:
        ratios = {form: self._interval(pairs, form) for form in pairs[0]}
        return Look(ratios=ratios, old_us=self.recorded.us, new_us=self.recorded.us, pairs=len(pairs))

    def _interval(self, pairs: Sequence[Pair], form: str) -> Interval:
        return interval([pair[form] for pair in pairs], shared=self.recorded.shared.get(form))


def estimated(blocks: Sequence[Sequence[Pair]], form: str) -> float:
    """The share of the deviation of the blocks' means that the scatter inside blocks does not explain."""
    if len(blocks) < 2:
        return 1.0
    means = [_means(block)[form] for block in blocks]
    inside = math.fsum(stdev(pair[form] for pair in block) ** 2 / len(block) for block in blocks) / len(blocks)
    found = stdev(means) ** 2
    return math.sqrt(max(0.0, found - inside) / found) if found else 0.0


def gate_says(simulated: Simulated, rules: Rules) -> Finding:
    """One verdict, as ``Comparison.judge`` comes to it."""
    first = simulated.look(rules)
    looks = [first] if not slower_forms(first, rules) else [first, simulated.look(rules)]
    return judge(looks, rules).finding


def run_says(simulated: Simulated, asked: float = 1.0) -> Finding:
    """One verdict against ``min_speedup``, as ``timing.measure`` comes to it."""
    looks = 0
    while True:
        found, looks = simulated.speedup(asked), looks + 1
        if ordinary_verdict(found, asked) is not Status.TOO_SLOW:
            return Finding.SAME
        if looks >= (simulated.recorded.policy.looks if found.high > LITTLE * asked else 2):
            return Finding.SLOWER


RULES: Mapping[str, Callable[[Simulated], Finding]] = {"gate": lambda one: gate_says(one, Rules()), "min_speedup": run_says}


def rate(
    recorded: Recorded, device: str, rule: str, *, slowdown: float, verdicts: int, between: float | None = None, seed: int = 1
) -> Rate:
    """The rate of one rule on one part."""
    simulated = Simulated(recorded, random.Random(f"{seed}{recorded.part}{slowdown}{between}"), math.log1p(slowdown), between)
    found = [RULES[rule](simulated) for _ in range(verdicts)]
    slower, us = found.count(Finding.SLOWER), recorded.us[LAUNCHED]
    wrong = verdicts - slower if slowdown else slower
    asked = between is None and (not slowdown or (rule == "gate" and slowdown >= (0.03 if us >= 100 else 0.10)))
    return Rate(
        device=device,
        part=recorded.part,
        us=us,
        rule=rule,
        slowdown=slowdown,
        between=between,
        verdicts=verdicts,
        slower=slower,
        unmeasurable=found.count(Finding.UNCLEAR),
        bound=at_most(wrong, verdicts),
        asked=asked,
    )


def at_most(count: int, runs: int, confidence: float = 0.95) -> float:
    """Clopper and Pearson's upper bound of a share, by bisection."""
    if count >= runs:
        return 1.0
    low, high = count / runs, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _no_more(count, runs, middle) > 1 - confidence else (low, middle)
    return high


def _no_more(count: int, runs: int, share: float) -> float:
    """P(at most ``count`` of ``runs``)."""
    if share in (0.0, 1.0):
        return float(share == 0.0)
    logs = (math.lgamma(runs + 1) - math.lgamma(k + 1) - math.lgamma(runs - k + 1) for k in range(count + 1))
    return math.fsum(math.exp(log + k * math.log(share) + (runs - k) * math.log1p(-share)) for k, log in enumerate(logs))


# -- files ---------------------------------------------------------------------------------------------------------------


def load(path: Path) -> tuple[str, list[Recorded]]:
    """The device and the parts of a file that ``gate_gpu`` or ``record`` wrote; parts without a timed verdict are left out."""
    data = json.loads(path.read_text())
    environment = data["environment"]
    device = f"{environment['name']}, torch {environment['torch']}" + (
        f", driver {environment['driver']}" if "driver" in environment else ""
    )
    scatter = data.get("scatter")
    parts = [
        _part({**row, "part": f"{row['part']}, {path.stem}"}, scatter, random.Random(row["part"]))
        for row in data["results"]
        if any("ratio" in one for one in row["verdicts"])
    ]
    return device, parts


def _part(row: Mapping[str, Any], scatter: Mapping[str, Any] | None, rng: random.Random) -> Recorded:
    timed = [one for one in row["verdicts"] if "ratio" in one]
    forms = sorted(set.intersection(*(set(one["ratios"]) for one in timed)))
    us = {form: median(one["old_us"][form] for one in timed) for form in forms}
    shared = {form: _shared(scatter, form, us[form]) for form in forms} if scatter else {}
    rebuilt = not any(one.get("log_ratios") for one in timed)
    blocks: list[list[Pair]] = []
    for one in timed:
        if rebuilt:
            blocks += _rebuilt(one["ratios"], forms, one["pairs"], shared, rng)
        else:
            for kept in (one["log_ratios"], one.get("first_log_ratios")):
                blocks += _blocks(kept, forms) if kept else []
    policy = (CUDA if scatter else CPU).blocks  # a host's pairs have processes of their own, and no scatter is measured
    return Recorded(
        part=row["part"],
        us=us,
        blocks=blocks,
        shared=shared,
        verdicts={
            name: sum(one["verdict"] == name for one in row["verdicts"]) for name in sorted({one["verdict"] for one in row["verdicts"]})
        },
        wanted=row["wanted"],
        rebuilt=rebuilt,
        policy=policy,
        quiet=row.get("quiet", ""),
    )


def _shared(scatter: Mapping[str, Any], form: str, us: float) -> Shared:
    each = scatter[f"{form}_us"] / us
    return Shared(deviation=math.hypot(each, each), count=scatter["processes"])


def _blocks(kept: Mapping[str, Sequence[float]], forms: Sequence[str]) -> list[list[Pair]]:
    """Whole blocks of seven, in the order in which they were recorded."""
    count = len(kept[forms[0]])
    pairs = [{form: kept[form][number] for form in forms} for number in range(count)]
    return [pairs[first : first + FEWEST_PAIRS] for first in range(0, count - FEWEST_PAIRS + 1, FEWEST_PAIRS)]


def _rebuilt(
    ratios: Mapping[str, Any], forms: Sequence[str], count: int, shared: Mapping[str, Shared], rng: random.Random
) -> list[list[Pair]]:
    """Pairs with an interval's own mean and variance, normal: for files that kept no pairs."""
    blocks: list[list[dict[str, float]]] = [[{} for _ in range(FEWEST_PAIRS)] for _ in range(count // FEWEST_PAIRS)]
    for form in forms:
        mean = math.log(ratios[form]["estimate"])
        half = math.log(ratios[form]["high"]) - mean
        given = shared.get(form)
        if given is not None:
            half = math.sqrt(max(0.0, half**2 - (student_quantile(0.995, given.count - 1) * given.deviation) ** 2))
        deviation = half / student_quantile(0.995, count - 1) * math.sqrt(count)
        drawn = [rng.gauss(0.0, 1.0) for _ in range(FEWEST_PAIRS)]
        centre, spread = math.fsum(drawn) / len(drawn), stdev(drawn)
        for block in blocks:
            for pair, value in zip(block, drawn, strict=True):
                pair[form] = mean + deviation * (value - centre) / spread
    return [list(block) for block in blocks]


def _means(block: Sequence[Pair]) -> dict[str, float]:
    return {form: math.fsum(pair[form] for pair in block) / len(block) for form in block[0]}


# -- recording -----------------------------------------------------------------------------------------------------------


def record(count: int, only: Sequence[str], out: Path, seed: int) -> None:
    """Verdicts on this CPU, unchanged and slowed down, and whether the machine was quiet meanwhile."""
    import tempfile

    from benchmarks import gate_gpu
    from kevolve.evaluate.disturbance import read, reasons

    made = gate_gpu.CPU[0]
    sizes = (("5", 20, 0.10, 2), ("38", 180, 0.05, 9), ("130", 620, 0.03, 18))
    subjects = [replace(made, name=name, shape=(rows, 64), planted=planted, guess=guess) for name, rows, planted, guess in sizes]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = gate_gpu.Bench("cpu", Path(folder), seed)
        try:
            for subject, slowed in [(subject, slowed) for slowed in (False, True) for subject in subjects]:
                if f"{'planted' if slowed else 'unchanged'}-{subject.name}" not in only and only:
                    continue
                before, load = read(), os.getloadavg()[0]
                row = bench.part(subject, planted=slowed, count=count, end=math.inf)
                disturbed = reasons(before, read(), cores=os.cpu_count() or 1)
                row |= {"quiet": "; ".join(disturbed) or "quiet", "loadavg": [round(load, 2), round(os.getloadavg()[0], 2)]}
                rows.append(row | {"date": datetime.now(UTC).isoformat(timespec="seconds")})
                print(gate_gpu._line(row), row["quiet"], flush=True)
                device = dict(bench.run.target.device())
                data = {"environment": device, "rules": asdict(bench.rules), "scatter": None, "results": rows}
                out.write_text(json.dumps(data, indent=1) + "\n")
        finally:
            bench.close()


# -- what is printed -----------------------------------------------------------------------------------------------------


def resample(paths: Sequence[Path], verdicts: int) -> tuple[list[dict[str, Any]], list[Rate]]:
    """What was recorded, and every rate."""
    recorded_rows: list[dict[str, Any]] = []
    rates: list[Rate] = []
    for path in paths:
        device, parts = load(path)
        for part in parts:
            recorded_rows.append(_recorded_row(device, part))
            if part.wanted:
                continue
            for rule in RULES:
                rates += [rate(part, device, rule, slowdown=0.0, between=between, verdicts=verdicts) for between in (None, 1.0, 2.0)]
                rates += [rate(part, device, rule, slowdown=slowdown, verdicts=verdicts // 5) for slowdown in SLOWDOWNS]
    return recorded_rows, rates


def _recorded_row(device: str, part: Recorded) -> dict[str, Any]:
    means = [_means(block) for block in part.blocks]
    inside = {form: median(stdev(pair[form] for pair in block) for block in part.blocks) for form in part.us}
    between = {form: stdev(mean[form] for mean in means) if len(means) > 1 else math.nan for form in part.us}
    return {
        "device": device,
        "part": part.part,
        "time us": ", ".join(f"{form} {us:.3g}" for form, us in part.us.items()),
        "pairs": part.pairs,
        "blocks": len(part.blocks),
        "scatter in a block %": ", ".join(f"{form} {100 * value:.2g}" for form, value in inside.items()),
        "between blocks %": ", ".join(f"{form} {100 * value:.2g}" for form, value in between.items()),
        "real verdicts": ", ".join(f"{count} {name}" for name, count in part.verdicts.items()),
        "machine": part.quiet or "not recorded",
        "pairs are": "rebuilt from intervals" if part.rebuilt else "recorded",
    }


def tables(recorded_rows: Sequence[Mapping[str, Any]], rates: Sequence[Rate], made_by: str) -> str:
    """Markdown."""
    alarms = [
        {"device": one.device.split(",")[0], "part": one.part, "rule": one.rule, "blocks apart": _apart(one.between)}
        | {"called slower": f"{one.slower} of {one.verdicts}", "95% bound": f"{one.bound:.2g}", "unmeasurable": one.unmeasurable}
        | {"asked": ("holds" if one.right else "FAILS") if one.asked else ""}
        for one in rates
        if not one.slowdown
    ]
    found = [
        {"device": one.device.split(",")[0], "part": one.part, "rule": one.rule, "slowdown": f"{one.slowdown:.0%}"}
        | {"found": f"{one.slower} of {one.verdicts}", "unmeasurable": one.unmeasurable}
        | {"asked": ("holds" if one.right else "FAILS") if one.asked else ""}
        for one in rates
        if one.slowdown
    ]
    lines = [f"Made by `{made_by}` on {datetime.now(UTC).date()}.", "", "What was recorded:", ""]
    lines += [tabulate(recorded_rows, headers="keys", tablefmt="github"), "", "Equal kernels called slower:", ""]
    lines += [tabulate(alarms, headers="keys", tablefmt="github"), "", "Slowdowns found:", ""]
    return "\n".join([*lines, tabulate(found, headers="keys", tablefmt="github")])


def _apart(between: float | None) -> str:
    return "estimated" if between is None else "as recorded" if between == 1.0 else f"{between:g} times"


def main() -> int:
    """Record, or resample and print; exit 1 where what is asked does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "resample"))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=40, help="verdicts a part to record")
    parser.add_argument("--only", nargs="+", default=[], help="parts to record: unchanged-5 …")
    parser.add_argument("--verdicts", type=int, default=10_000, help="to simulate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "record":
        if arguments.json is None:
            parser.error("record: expected --json FILE, got none; what is recorded is written there after every part")
        record(arguments.count, arguments.only, arguments.json, arguments.seed)
        return 0
    recorded_rows, rates = resample(arguments.files, arguments.verdicts)
    made_by = command("benchmarks.verdicts", sys.argv[1:])
    text = tables(recorded_rows, rates, made_by)
    print(text)
    if arguments.json:
        data = {"command": made_by, "recorded": recorded_rows, "rates": [asdict(one) for one in rates]}
        arguments.json.write_text(json.dumps(data, indent=1) + "\n")
    if arguments.out:
        put(arguments.out, "statistics", text)
    return int(not all(one.right for one in rates))


if __name__ == "__main__":
    raise SystemExit(main())
