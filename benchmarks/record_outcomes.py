"""Broken and slow kernels through kevolve, their outcomes kept as nodes: what diagnoses and retrieval are tested with.

Every mutation of ``benchmarks/outcomes`` is built, checked and timed as a search would; those that name an architecture are compiled
ahead for it and checked in the interpreter. Outcomes go to ``--json`` (one line each, by name; labels in it stay) as they come.
Usage: ``python -m benchmarks.record_outcomes [--target cuda] [--json tests/knowledge/diagnoses.jsonl] [names …]``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.evaluations import distinct
from benchmarks.outcomes.mutations import MUTATIONS, Mutation
from benchmarks.specs import SUITES, collect
from kevolve import registry
from kevolve.evaluate.ahead import compile_ahead, shapes
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.floor import case_work, floor_us
from kevolve.evaluate.materialise import materialise
from kevolve.evaluate.oracle import forward
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan, make_plan
from kevolve.evaluate.timing import quick, timed_pool
from kevolve.languages import Language
from kevolve.search.loop import Evaluated, normal_hash
from kevolve.search.node import Node, Proposal
from kevolve.search.pipeline import Pipeline
from kevolve.spec.spec import Draw, Spec
from kevolve.targets import Target

ROOT = Path(__file__).resolve().parents[1]
OUTCOMES = Path(__file__).parent / "outcomes"
RECORD = ROOT / "tests" / "knowledge" / "diagnoses.jsonl"
SEED = 20261121
CHECK_S, COMPILE_S = 120.0, 120.0
_INTERPRETED, _SWEPT = 1 << 12, 37  # elements of a draw, draws of the sweep
# The operator's families, as `kevolve.operators.agent.families` has them from its trace.
FAMILIES = {
    "rms_norm": ("normalisation", "reduction"),
    "rms_norm_backward": ("normalisation", "reduction"),
    "layer_norm": ("normalisation", "reduction"),
    "softmax": ("normalisation", "reduction"),
    "cross_entropy": ("reduction",),
    "swiglu": ("pointwise",),
    "gelu": ("pointwise",),
    "map_id": ("search",),
    "mbdt": ("search",),
    "batch_event_truncate": ("jagged",),
    "embedding_bag": ("embedding", "gather-scatter"),
    "matmul": ("matmul",),
    "fm": ("matmul",),
    "attention": ("attention", "matmul"),
    "conv1d": ("convolution",),
    "row_scan": ("scan",),
    "quantise": ("quantisation", "reduction"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all evaluations share."""

    target: Target
    specs: Mapping[str, Spec]
    workers: Workers
    cache: Path

    def source(self, mutation: Mutation) -> str:
        """The kernel with its edits. Raises ``RuntimeError`` where an edit does not apply."""
        text = self._base(mutation)
        for old, new in mutation.edits:
            if old not in text:
                raise RuntimeError(f"{mutation.spec}.{mutation.language}: no {old!r}")
            text = text.replace(old, new)
        return text

    def _base(self, mutation: Mutation) -> str:
        language: Language = registry.load("languages", mutation.language)
        own = OUTCOMES / "kernels" / f"{mutation.spec}{language.suffix}"
        suites = SUITES / "kernels" / mutation.spec / f"cpu{language.suffix}"
        found = next((path.read_text() for path in (own, suites) if path.exists()), None)
        return found if found is not None else distinct(self.specs[mutation.spec], 1, name=mutation.language)[0].source

    def cases(self, spec: Spec) -> tuple[Any, ...]:
        """The spec's cases on the target."""
        return tuple(case for case in spec.cases if case.targets is None or self.target.name in case.targets)

    def plan(self, proposal: Proposal, spec: Spec) -> Plan:
        """The draws; in the interpreter few and small, as an outcome is wanted and no verdict."""
        cap = self.target.largest(proposal.language)
        if cap is None:
            return make_plan(spec, seed=SEED, examples=40, huge=False)
        plan = make_plan(spec, seed=SEED, cap=min(cap, _INTERPRETED), examples=48, huge=False)
        swept = [draw for draw in plan.draws if draw.origin == "sweep"]
        return replace(plan, draws=(*swept[:: max(1, len(swept) // _SWEPT)], *(draw for draw in plan.draws if draw.origin != "sweep")))

    def evaluated(self, proposal: Proposal, spec: Spec) -> Evaluated:
        """As in a search."""
        pipeline = Pipeline(
            spec=spec,
            cases=self.cases(spec),
            target=self.target,
            workers=self.workers,
            plans={proposal.language: self.plan(proposal, spec)},
            kept=(),
            cache=self.cache,
            pool=_pools(spec),
            seed=SEED,
            jobs=1,
            compile_timeout_s=COMPILE_S,
            check_timeout_s=CHECK_S,
        )
        return next(iter(pipeline([proposal])))

    def compiled(self, proposal: Proposal, spec: Spec, arch: str) -> Evaluated:
        """Compiled ahead for ``arch``, then checked in the interpreter: where there is no device of this architecture."""
        device = registry.load("targets", "cuda")
        built = build(proposal.source, proposal.language, spec=spec, target=device, cache=self.cache, timeout_s=COMPILE_S)
        if isinstance(built, Candidate):
            wanted = shapes(spec, spec.cases, None)
            built = compile_ahead(self.workers, spec, built, wanted, target=device, arch=arch, deadline_s=COMPILE_S, jobs=1)
        if isinstance(built, Outcome):
            return Evaluated(proposal=proposal, outcome=built, fitness=0.0, seconds=0.0)
        outcome = check(self.workers, spec, built, self.plan(proposal, spec), target=self.target, deadline_s=CHECK_S)
        if outcome.passed:
            outcome = Outcome(status=Status.NOT_MEASURED, stage=Stage.QUICK, message=f"compiled for {arch}, no device to time it on")
        outcome = replace(outcome, detail={**outcome.detail, **built.said})
        return Evaluated(proposal=proposal, outcome=outcome, fitness=0.0, seconds=0.0)

    def facts(self, spec: Spec) -> dict[str, Any]:
        """The cases' baselines and floors, microseconds, and an empty call's."""
        peaks = self.target.peaks(self.cache)
        language = self.target.languages[0]
        built = build(
            self._base(Mutation(spec=spec.name, language=language, idea="")),
            language,
            spec=spec,
            target=self.target,
            cache=self.cache,
            timeout_s=COMPILE_S,
        )
        cases = {}
        for case in self.cases(spec):
            if not isinstance(built, Candidate):
                break
            timed = quick(self.workers, spec, case, built, target=self.target, seed=SEED)
            inputs = materialise(spec, draw := Draw(values=case.values, seed=SEED))
            outputs = () if spec.work is not None else _tensors(forward(spec, draw, inputs))
            floor = floor_us(case_work(spec, case, inputs, outputs), peaks)
            found = {"baseline_us": timed.baseline_us, "floor_us": floor}
            cases[case.id] = {name: round(value, 2) for name, value in found.items() if value is not None}
        return {"cases": cases, "peaks": {"empty_call_us": peaks.empty_call_us}}


def _tensors(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


_made: dict[tuple[str, str], Any] = {}


def _pools(spec: Spec) -> Any:
    """Contents of the timed calls, made once a case."""

    def pool(case: Any) -> Any:
        key = (spec.name, case.id)
        if key not in _made:
            _made[key] = timed_pool(spec, case, seed=SEED)
        return _made[key]

    return pool


@contextmanager
def bench(target_name: str) -> Iterator[Bench]:
    """Workers and specs for one target."""
    target = registry.load("targets", target_name)
    with tempfile.TemporaryDirectory() as folder, Workers(sys_path=[path for path in sys.path if path], scratch=Path(folder)) as workers:
        specs = collect(target_name) | collect(target_name, OUTCOMES / "test_operators.py")
        yield Bench(target=target, specs=specs, workers=workers, cache=Path(folder) / "cache")


def record(bench: Bench, name: str, number: int) -> dict[str, Any]:
    """One mutation's line."""
    mutation = MUTATIONS[name]
    spec = bench.specs[mutation.spec]
    source = bench.source(mutation)
    proposal = Proposal(language=mutation.language, source=source, operator="recorded", idea=mutation.idea)
    ahead = bool(mutation.arch) and bench.target.shares_cores
    found = bench.compiled(proposal, spec, mutation.arch) if ahead else bench.evaluated(proposal, spec)
    language: Language = registry.load("languages", mutation.language)
    node = Node(
        id=number,
        run=1,
        spec=spec.nodeid,
        spec_hash=spec.hash,
        target=bench.target.name,
        proposal=proposal,
        source_hash="",
        normal_hash=_normal_hash(language, source),
        outcome=found.outcome,
        fitness=found.fitness,
        seconds=round(found.seconds, 3),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    device = {"name": f"none: compiled ahead for {mutation.arch}", "arch": mutation.arch} if ahead else dict(bench.target.device())
    return {"name": name, "spec": spec.name, "device": device, "families": FAMILIES[spec.name], "node": _plain(asdict(node))}


def _normal_hash(language: Language, source: str) -> str:
    """Empty for a text that does not parse."""
    try:
        return normal_hash(lambda _, text: language.normalise(text), language.name, source)
    except SyntaxError:
        return ""


def _plain(value: Any) -> Any:
    """As JSON has it; infinities and NaN stay Python's own."""
    return json.loads(json.dumps(value, default=str))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """A record's lines by name."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def write(path: Path, lines: Mapping[str, Mapping[str, Any]]) -> None:
    """All lines, by name."""
    path.write_text("".join(json.dumps(lines[name], ensure_ascii=False) + "\n" for name in sorted(lines)))


def main() -> int:
    """Record; names of mutations choose, and what is named is recorded anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--json", type=Path, default=RECORD)
    parser.add_argument("--jobs", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    lines = read(arguments.json)
    suffix = "" if arguments.target == "cpu" else f"-{arguments.target}"
    with bench(arguments.target) as shared:
        wanted = arguments.names or [
            name for name in MUTATIONS if MUTATIONS[name].language in shared.target.languages and name + suffix not in lines
        ]
        wanted = [name for name in wanted if MUTATIONS[name].language in shared.target.languages]
        facts = {
            spec: shared.facts(shared.specs[spec])
            for spec in sorted({MUTATIONS[name].spec for name in wanted if shared.target.unmeasured(MUTATIONS[name].language) is None})
            if _timed(shared, spec)
        }
        with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
            futures = {pool.submit(record, shared, name, number): name for number, name in enumerate(wanted, 1)}
            for future in as_completed(futures):
                name = futures[future]
                if future.exception() is not None:  # the others go on; what is missing is recorded by the next run
                    print(f"{name}: {future.exception()!r:.300}", flush=True)
                    continue
                line = future.result() | {"name": name + suffix}
                seconds = f"{line['node']['seconds']:.0f} s"
                line["facts"] = facts.get(line["spec"], {}) if line["node"]["outcome"]["detail"].get("speedups") else {}
                line["documents"] = lines.get(name + suffix, {}).get("documents", [])
                lines[name + suffix] = line
                write(arguments.json, lines)
                outcome = line["node"]["outcome"]
                print(f"{name + suffix}: {seconds} {outcome['status']} at {outcome['stage']}: {outcome['message'][:200]!r}", flush=True)
    return 0


def _timed(bench: Bench, spec: str) -> bool:
    """Whether the spec has a kernel in the target's first language to time its baseline with."""
    language: Language = registry.load("languages", bench.target.languages[0])
    places = (OUTCOMES / "kernels" / f"{spec}{language.suffix}", SUITES / "kernels" / spec / f"cpu{language.suffix}")
    return any(path.exists() for path in places)


if __name__ == "__main__":
    raise SystemExit(main())
