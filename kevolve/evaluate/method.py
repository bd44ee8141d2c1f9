"""How a measurement was made, in one sentence for the record."""

from __future__ import annotations

from kevolve.evaluate.baselines import CANDIDATE
from kevolve.evaluate.resident import batch_size, set_count
from kevolve.evaluate.scatter import Scatter
from kevolve.evaluate.series import Series
from kevolve.evaluate.statistics import CONFIDENCE
from kevolve.targets import Target


def method(series: Series, target: Target, scatter: Scatter | None = None, *, compared: str | None = None) -> str:
    """Pairs, blocks, contents, cache, forms and the interval. ``compared``: which forms are, where that is not as against a baseline."""
    if target.modelled:
        return "one pair by the target's model"
    policy = target.blocks
    rounds = len(series.pairs[0].blocks[CANDIDATE]) // 2
    block_us = min(policy.min_us, *(block.launched_us * block.calls for block in series.blocks(CANDIDATE)))
    units = "process pairs" if policy.pairs_a_process == 1 else f"pairs ({_processes(series)}, other buffers in every pair)"
    return (
        f"{len(series.pairs)} {units} x {rounds} palindromic rounds of blocks of at least {block_us / 1e3:.2g} ms, "
        f"{policy.warm_calls} untimed calls after a hand-over, {_contents(series)}, cache {policy.cache}; mean log ratio a pair, "
        f"{CONFIDENCE:.0%} Student interval over pairs{_between(scatter)}{_forms(series) if compared is None else compared}"
    )


def _between(scatter: Scatter | None) -> str:
    """What pairs of the same processes do not show."""
    if scatter is None:
        return ""
    both = f"{scatter.launched_us:.2g} us launched, {scatter.replayed_us:.2g} us replayed"
    return f" and over the scatter between {scatter.processes} processes ({both})"


def _processes(series: Series) -> str:
    count = -(-len(series.pairs) // series.plan.policy.pairs_a_process)
    return "one process a side" if count == 1 else f"{count} processes of the candidate"


def _forms(series: Series) -> str:
    """Which times the ratios are of, where calls were captured; and what could not be."""
    policy, layout = series.plan.policy, series.plan.pool.layout
    if policy.sets == 1:
        return ""
    sets = set_count(layout, policy.sets, policy.sets_bytes)
    used = ", ".join(f"{side} {'replayed' if series.replays_faster(side) else 'launched'}" for side in (CANDIDATE, *series.baselines))
    refused = "".join(f"; {side} {reason}" for side, reason in series.uncaptured.items())
    return (
        "; launched: with the host's gaps where it does not keep ahead; replayed: "
        f"graphs of {batch_size(layout, sets)} calls, {sets} input sets in turn; "
        f"over eager launched against launched, over others the faster forms ({used}){refused}"
    )


def _contents(series: Series) -> str:
    """Where the contents of the timed calls came from, for the record."""
    sets = series.plan.pool.sets
    if sets is None:
        return "contents never seen before"
    return f"{sets} input sets in rotation, so that contents repeat" if series.repeated else f"{sets} input sets, none twice in a process"
