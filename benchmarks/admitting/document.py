"""The page of what admission found, from the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kevolve.spec.admits import IMPOSTORS

TOLERANCES = ("0.0001", "0.01")
KNOWN = json.loads(Path(__file__).with_name("known.json").read_text())
_PARTIAL = ("last tile", "sampled prefix", "wrong axis")  # work left out or done elsewhere; the others compute nothing of substance
_PROBLEMS = {"L1": 100, "L2": 100, "L3": 50}
_INTRODUCTION = """<!-- Written by `python -m benchmarks.admission --document docs/admission.md`; edit benchmarks/admitting/document.py. -->
# Admission of a spec

Before a spec judges a kernel it is judged itself: impostors, outputs that compute nothing, too little or too coarsely, must fail under
its own inputs and tolerance. One that passes is the error of every test of the spec, in every mode, with the impostor's name, a draw
that it passed, the tolerance there, and what would strengthen the spec. What was tried and refused stands in the record (`admission` of
a property row, `impostors` of a case's). The answer is kept below the cache by the spec's hash and by the rules' own text.

| impostor | what it returns in place of one output, the others being right |
|---|---|
{impostors}
| `input 0`, `input 1` … | the input passed through, where its shape allows |

Looked at are a draw of equal sizes and small versions of the cases; where an impostor is left, ten draws as the property plan makes
them, then sixteen larger ones. Draws follow from the spec's hash. One draw that refuses an impostor is enough; an impostor that is
right by chance on one draw (one row, equal inputs) is refused on another. One that cannot be made for any draw is *not applicable*,
with the reason. A pass on all draws looked at is no proof that no draw of the whole plan would refuse it, and a refusal says nothing of
impostors that are not in the table. `lower accumulation` adds to each sum of n terms the random walk that an accumulator of the lower
dtype makes (float32 to bfloat16; of 16-bit outputs an accumulator of their own dtype, where sums have 128 terms or more).

Where the right answer truly looks like an impostor, the spec says so and why, and the record shows it:

    @kevolve.kernel(copy, admits={{"input 0": "it measures a copy"}})          # or "zeros of output 1", for one output
"""


def document(results: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    impostors = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in IMPOSTORS.items())
    parts = [_INTRODUCTION.format(impostors=impostors), *_suites(results), *_theirs(results), *_ours(results)]
    return "\n".join(parts).rstrip() + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]


def _suites(results: Mapping[str, Any]) -> Iterator[str]:
    found = results.get("suites", {})
    if not found:
        return
    yield (
        f"## Cost\n\n`python -m benchmarks.admission --suites`, {results['versions']}, one thread. The limit is 1 s a spec; an answer "
        "from the cache costs the reading of a file. The seconds by the clock count other work on the machine, those of a core do not. A "
        "spec that lets no size vary pays for its own sizes: `rms_norm` at 1024x4096 alone cost 10 s of a core, once.\n"
    )
    head = ("spec", "seconds", "of a core", "draws", "refused", "not applicable", "passed")
    names = ("seconds", "cpu_seconds", "draws", "refused", "not_applicable")
    yield from _table(head, [(f"`{name}`", *(row[key] for key in names), len(row["survivors"])) for name, row in found.items()])


# --- KernelBench as it is ---


def accepts(row: Mapping[str, Any], tolerance: str) -> list[str]:
    """The impostors of no substance that a problem accepts."""
    return [name for name in row.get("accepted", {}).get(tolerance, ()) if name not in _PARTIAL]


def known(tolerance: str) -> list[str]:
    """The problems that were found on an H200, as keys."""
    return [f"{level}/{number}" for level, numbers in KNOWN[{"0.0001": "1e-4", "0.01": "1e-2"}[tolerance]].items() for number in numbers]


def _theirs(results: Mapping[str, Any]) -> Iterator[str]:
    found = results.get("theirs", {})
    if not found:
        return
    run = {key: row for key, row in found.items() if "accepted" in row}
    yield _THEIRS.format(versions=results["versions"], looked=len(run), of=sum(_PROBLEMS.values()))
    for tolerance in TOLERANCES:
        flagged = [key for key, row in run.items() if accepts(row, tolerance)]
        missed = [key for key in known(tolerance) if key not in flagged]
        yield (
            f"- at {float(tolerance):g}: {len(flagged)} of {len(run)} problems accept an output of nothing; of the {len(known(tolerance))} "
            f"known from an H200, {len(known(tolerance)) - len(missed)} are flagged"
            + (f"; not flagged: {', '.join(missed)}" if missed else "")
        )
    yield ""
    rows = [_their_row(key, row) for key, row in run.items() if accepts(row, "0.01")]
    yield from _table(("problem", "rows", "accepted at 1e-4", "only at 1e-2"), rows)
    partial = [key for key, row in run.items() if not accepts(row, "0.01") and row["accepted"]["0.01"]]
    if partial:
        yield f"Of the others, {', '.join(partial)} accept at 1e-2 an answer of which a part was left out ({', '.join(_PARTIAL)}).\n"
    yield from _missing(found, run)


_THEIRS = """## What KernelBench accepts

`python -m benchmarks.admission --theirs --checkout KERNELBENCH`, {versions}: {looked} of {of} problems of levels 1 to 3, each with its
own inputs and weights, three seeds, `torch.allclose` with `atol` and `rtol` the same. An impostor is accepted where all three trials
accept it.

A CPU cannot do their sizes, so the number of *rows* (`batch_size`, or the rows of a matrix product) is smaller, nothing else: what a
row is made of, how long its sums are and how small its numbers become is the problem's own. Rows are computed alike, so that what fails
shows in few of them: a small number is the more lenient look at outputs of rows, and the stricter at sums over all of them (losses,
norms of everything), whose law of large numbers has less to work with. Those were run with as many rows as the finding needs. L1/98
draws the scale of its inputs, and accepts a replay where the trials' scales are alike: with two of six sets of three seeds.
"""


def _their_row(key: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    strict, loose = accepts(row, "0.0001"), accepts(row, "0.01")
    seeds = f" (seeds {row['seeds']})" if row.get("seeds") else ""
    return (
        f"{key} {row['name']}",
        f"{row['rows'] or 'all'}{seeds}",
        ", ".join(strict),
        ", ".join(name for name in loose if name not in strict),
    )


def _missing(found: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """What was not reached, honestly."""
    stopped = [f"{key} ({row.get('stopped', row.get('error', ''))[:60]})" for key, row in found.items() if key not in run]
    never = [f"{level}: {count - sum(key.startswith(f'{level}/') for key in found)}" for level, count in _PROBLEMS.items()]
    if stopped:
        yield f"Not done: {'; '.join(stopped)}.\n"
    if any(not text.endswith(": 0") for text in never):
        yield f"Problems not looked at, by level: {', '.join(never)}.\n"


# --- the same as specs of ours ---


def _ours(results: Mapping[str, Any]) -> Iterator[str]:
    found = results.get("ours", {})
    if not found:
        return
    run = {key: row for key, row in found.items() if "survivors" in row}
    left = {key: row for key, row in run.items() if row["survivors"] or row.get("unjudged")}
    random = [f"{key} {row['name']}" for key, row in found.items() if row.get("random")]
    yield _OURS.format(versions=results["versions"], looked=len(run), of=sum(_PROBLEMS.values()), admitted=len(run) - len(left))
    flagged = [key for key in known("0.01") if key in run]
    remain = [key for key in flagged if key in left]
    count = len(known("0.01"))
    yield (
        f"Of the {count} problems on which KernelBench's 1e-2 is known to accept nothing of substance, {len(flagged)} were looked at and "
        f"{len(flagged) - len(remain)} are admitted.\n"
    )
    if left:
        rows = [(f"{key} {row['name']}", ", ".join(row["survivors"]) or "any", row["draws"], _why(row)) for key, row in left.items()]
        yield from _table(("problem", "impostors that pass", "draws", "why"), rows)
    if random:
        yield (
            f"No spec can be made of {', '.join(random)}: the same inputs give other outputs each time (random states, dropout), so that "
            "there is no oracle.\n"
        )
    yield from _missing({key: row for key, row in found.items() if not row.get("random")}, run)


_OURS = """## The same problems as kevolve's specs

`python -m benchmarks.admission --ours --checkout KERNELBENCH`, {versions}: {looked} of {of} problems as specs with the weights as
inputs (drawn anew for each draw, scattered as the model's own), `torch.rand` replaced by normal, uniform, heavy-tailed and integer
numbers, small sizes and the derived tolerance. {admitted} are admitted: every impostor fails.
"""


def _why(row: Mapping[str, Any]) -> str:
    """What the survivors have in common."""
    names = set(row["survivors"])
    if not names:
        return f"refused: every draw excludes the output ({'; '.join(row['unjudged'].values())})"
    if {"zeros", "replay"} <= names:
        return "the output is the same number whatever the inputs are"
    if "mean" in names and "replay" not in names:
        return "all elements are one number, a weight's: the input does not reach the output"
    if "replay" in names or "constant" in names:
        return "the output hardly depends on the inputs"
    if names <= {"last tile"}:
        return "the last elements of the right output are close to zero on every draw"
    if names <= {"lower accumulation"}:
        return "its sums are so ill-conditioned that rounding hides a coarser accumulator"
    return "see the draws"
