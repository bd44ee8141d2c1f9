"""What the protections cost: complete evaluations a minute with all of them, without each, and without any that can be switched off.

*Without*: a build in which the child of a candidate is not confined (``sandbox``), inputs are not rewritten between timed calls
(``contents``), outputs of timed calls are not verified (``verified``) and the judge's own clock times nothing (``clock``). What cannot
be taken out stays in both: processes of one's own, the property plan, the comparison. The second look costs nothing where a kernel is
right, and the admission of a spec runs once a spec. The switches are patches of this benchmark's processes; kevolve has none.

Usage: ``python -m benchmarks.cost [--spec rms_norm] [--count 16] [--rounds 3] [--json PATH]``, alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
SWITCHES = ("sandbox", "contents", "verified", "clock")
VARIANTS: dict[str, tuple[str, ...]] = {"all": (), **{f"without {name}": (name,) for name in SWITCHES}, "without all four": SWITCHES}


def unprotect_server(names: Collection[str]) -> None:
    """In a fork server of this benchmark, before it serves."""
    from kevolve.evaluate import contents, sandbox

    if "sandbox" in names:
        off = sandbox.Confined(had={"files": "off", "system_calls": "not filtered: off", "capabilities": "off"})
        sandbox.confine = lambda *_, **__: off  # type: ignore[assignment]
        sandbox.begin = lambda *_, **__: None  # type: ignore[assignment]
        sandbox.leave_network = lambda: "shared: off"
    if "contents" in names:
        contents.Contents._refresh = lambda *_: None  # type: ignore[method-assign]


def unprotect_judge(names: Collection[str]) -> None:
    """In this process."""
    from kevolve.evaluate import fork_server, runner, timing
    from kevolve.evaluate.outcome import Outcome, Stage, Status

    if "verified" in names:
        timing.verify = lambda *_, **__: (Outcome(status=Status.PASSED, stage=Stage.PAIRED), 0)  # type: ignore[assignment]
    if "clock" in names:
        runner.Runner.host_us = lambda *_: 0.0  # type: ignore[method-assign]
        runner.Runner.replayed_host_us = lambda *_: None  # type: ignore[method-assign]
    first = f"from benchmarks.cost import unprotect_server\nunprotect_server({tuple(names)!r})\n"
    fork_server._BOOT = fork_server._BOOT.replace("from kevolve.evaluate.server", f"{first}from kevolve.evaluate.server")


def one(names: Collection[str], spec: str, count: int, target: str) -> dict[str, Any]:
    """Evaluate without ``names``, in this process."""
    from benchmarks import evaluations
    from benchmarks.specs import collect
    from kevolve import registry

    unprotect_judge(names)
    found = collect(target)[spec]
    return evaluations.run(found, found.cases[:1], count, registry.load("targets", target))


def run(spec: str, count: int, rounds: int, target: str) -> list[dict[str, Any]]:
    """Every variant once a round, in turns, each in a process of its own; rows with medians. ``cost``: over what is without all."""
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        for variant in list(VARIANTS) if number % 2 == 0 else reversed(VARIANTS):
            names = ",".join(VARIANTS[variant])
            command = [sys.executable, "-m", "benchmarks.cost", "--one", names, "--spec", spec, "--count", str(count), "--target", target]
            said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            figures = json.loads(said.splitlines()[-1])
            if figures["refused"]:
                raise RuntimeError(f"{variant}: {figures['refused']} correct candidates were refused")
            rates[variant].append(figures["complete_per_minute"])
    bare = median(rates["without all four"])
    return [{"variant": name, "a minute": median(found), "cost": bare / median(found), "rates": found} for name, found in rates.items()]


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="rms_norm")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", metavar="SWITCHES", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        names = [name for name in arguments.one.split(",") if name]
        print(json.dumps(one(names, arguments.spec, arguments.count, arguments.target)))
        return 0
    rows = run(arguments.spec, arguments.count, arguments.rounds, arguments.target)
    print(tabulate([{**row, "rates": " ".join(f"{rate:.1f}" for rate in row["rates"])} for row in rows], headers="keys", floatfmt=".2f"))
    if arguments.json:
        arguments.json.write_text(json.dumps({"spec": arguments.spec, "target": arguments.target, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
