"""Complete evaluations a minute, seconds to a refusal, peak memory: what a search costs on this machine.

An evaluation is complete when a distinct source was compiled, checked on the whole property plan and timed quickly on every case.
Compiler and build caches start empty. Usage: ``python -m benchmarks.evaluations [--spec rms_norm] [--count 40] [--json PATH]``

``--target cuda``: candidates in Triton, all at once, and the share of the time in which the device is busy (as its driver counts it) and
in which it is held. ``--kernelbench CHECKOUT``: KernelBench's evaluator on some of the same candidates (``kernelbench.py``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from tabulate import tabulate

from benchmarks import kernelbench
from benchmarks.specs import collect
from kevolve import registry
from kevolve.evaluate.client import Workers
from kevolve.evaluate.plan import make_plan
from kevolve.evaluate.timing import timed_pool
from kevolve.operators import Context
from kevolve.operators.lowering import drafted
from kevolve.operators.samples import families
from kevolve.operators.trace import trace_reference
from kevolve.operators.tune_lines import marked
from kevolve.operators.tuning import Tunable
from kevolve.search.node import Graph, Proposal
from kevolve.search.pipeline import Pipeline
from kevolve.spec.spec import Case, Spec

_TOLD = 16  # candidates between two lines of progress
_VARIANT = {
    "cpp": "\n[[maybe_unused]] static const int variant_{0} = {0};\n",
    "triton": "\n\ndef variant_{0}():\n    return {0}\n",
}


class Memory:
    """The greatest resident memory of this process and of all its children together, sampled by a process of its own."""

    def __init__(self) -> None:
        self.judge = self.children = 0

    def __enter__(self) -> Memory:
        command = [sys.executable, "-m", "benchmarks.resident", str(os.getpid())]
        self._sampler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        found, _errors = self._sampler.communicate()  # the end of its input ends it
        self.judge, self.children = map(int, found.split())


class Busy:
    """The device's own count of its busy time, sampled, and the time in which somebody holds it."""

    def __init__(self, workers: Workers, target: Any) -> None:
        self.samples: list[float] = []
        self.held_s, self._device = 0.0, not target.shares_cores
        self._holds, self._inside, self._since, self._lock = workers.holds, 0, 0.0, threading.Lock()
        for name in ("shared", "alone"):
            setattr(workers.holds, name, self._counted(getattr(workers.holds, name)))
        self._query = None
        if shutil.which("nvidia-smi") and target.name == "cuda":
            command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
            self._query = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._query is not None
        assert self._query.stdout is not None
        self.samples.extend(float(line) for line in self._query.stdout)

    def _counted(self, hold: Any) -> Any:
        @contextmanager
        def counted(target: Any) -> Iterator[None]:
            with hold(target):
                with self._lock:
                    self._since = self._since if self._inside else time.perf_counter()
                    self._inside += 1
                try:
                    yield
                finally:
                    with self._lock:
                        self._inside -= 1
                        self.held_s += 0.0 if self._inside else time.perf_counter() - self._since

        return counted

    def stop(self, seconds: float) -> dict[str, float]:
        """Shares of ``seconds``."""
        if self._query is not None:
            self._query.terminate()
            self._query.wait()
        busy = {"device_busy": round(mean(self.samples) / 100, 3)} if self.samples else {}
        return busy | ({"device_held": round(self.held_s / seconds, 3)} if self._device else {})


def distinct(spec: Spec, count: int, target: str = "cpu", name: str = "cpp") -> list[Proposal]:
    """``count`` different sources: settings of the fitting samples and of the lowered draft, then the same with another constant."""
    language = registry.load("languages", name)
    found = {language.normalise(proposal.source): proposal for proposal in _settings(spec, target, language)}
    settings = list(found.values())
    for number in itertools.count():
        if len(found) >= count:
            return list(found.values())[:count]
        base = settings[number % len(settings)]
        source = base.source + _VARIANT[name].format(number)
        found[language.normalise(source)] = Proposal(language=name, source=source, operator="benchmark", idea=f"variant {number}")
    raise AssertionError("unreachable: count is finite")


def _settings(spec: Spec, target: str, language: Any) -> Iterator[Proposal]:
    """Every setting of the fitting samples; then the lowered draft as it is, and every setting of its lines."""
    trace = trace_reference(spec, target=target)
    context = Context(spec=spec, trace=trace, target=target, language=language.name, graph=Graph(), sources={}, random=random.Random(0))
    for family in families(context).values():
        yield from _every(family)
    lowered = marked(drafted(spec, language.name).source, language)
    if lowered is not None:
        yield lowered.proposal(lowered.setting, operator="benchmark")
        yield from _every(lowered)


def _every(tunable: Tunable) -> Iterator[Proposal]:
    for values in itertools.product(*tunable.knobs.values()):
        yield tunable.proposal(dict(zip(tunable.knobs, values, strict=True)), operator="benchmark")


def refusals(pipeline: Pipeline, good: Proposal) -> dict[str, float]:
    """Seconds until a candidate that does not parse, and one that does not compile, is refused."""
    if good.language == "cpp":
        texts = {
            "does not parse": good.source.replace("TVM_FFI_DLL_EXPORT_TYPED_FUNC", "// "),
            "does not compile": good.source + "\nstatic int broken() { return undeclared; }\n",
        }
    else:
        texts = {
            "does not parse": good.source.replace("def ", "def def ", 1),
            "does not compile": good.source.replace("tl.load(", "tl.undeclared(", 1),
        }
    seconds = {}
    for name, source in texts.items():
        began = time.perf_counter()
        (result,) = pipeline([Proposal(language=good.language, source=source, operator="benchmark", idea=name)])
        if result.outcome.passed:
            raise RuntimeError(f"a candidate that {name} was accepted")
        seconds[name] = time.perf_counter() - began
    return seconds


def run(spec: Spec, cases: tuple[Case, ...], count: int, target: Any) -> dict[str, Any]:
    """Evaluate ``count`` candidates of ``spec``; figures by name."""
    language = target.languages[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = stack.enter_context(Workers(sys_path=[path for path in sys.path if path], scratch=folder))
        pools = {case.id: timed_pool(spec, case, seed=1) for case in cases}
        for pool in pools.values():
            stack.callback(pool.close)
        proposals = distinct(spec, count, target.name, language)
        if not target.shares_cores:
            workers.child(target=target, language=language).close()  # the server is a session's, not a candidate's
        busy = Busy(workers, target)
        memory = stack.enter_context(Memory())
        began = time.perf_counter()
        plan = make_plan(spec, seed=1, cap=None)
        pipeline = Pipeline(
            spec=spec,
            cases=cases,
            target=target,
            workers=workers,
            plans={language: plan},
            kept=(),
            cache=folder / "cache",
            pool=lambda case: pools[case.id],
            seed=1,
            jobs=len(os.sched_getaffinity(0)),
        )
        results = _in_batches(pipeline, proposals, 8 if target.shares_cores else len(proposals))
        seconds = time.perf_counter() - began
        shares = busy.stop(seconds)
        complete = sum(result.fitness > 0 for result in results)
        refused = refusals(pipeline, proposals[0])
    return {
        "spec": spec.name,
        "cases": len(cases),
        "draws": len(plan.draws),
        "complete": complete,
        "refused": len(results) - complete,
        "seconds": round(seconds, 2),
        "complete_per_minute": round(60 * complete / seconds, 1),
        **shares,
        "refusal_seconds": {name: round(value, 3) for name, value in refused.items()},
        "peak_judge_mib": round(memory.judge / 2**20),
        "peak_children_mib": round(memory.children / 2**20),
        "judge_cpu_s": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 1),
    }


def _in_batches(pipeline: Pipeline, proposals: list[Proposal], size: int) -> list[Any]:
    """What came of them, and how far it is, every so often."""
    began, results = time.perf_counter(), list[Any]()
    for start in range(0, len(proposals), size):
        for result in pipeline(proposals[start : start + size]):
            results.append(result)
            if len(results) % _TOLD == 0:
                print(f"{len(results)} of {len(proposals)} after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return results


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="rms_norm")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--cases", type=int, default=1, help="how many of the spec's cases each candidate is timed on")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--kernelbench", type=Path, metavar="CHECKOUT", help="run KernelBench's evaluator on candidates of rms_norm too")
    parser.add_argument("--kernelbench-count", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    target = registry.load("targets", arguments.target)
    spec = collect(target.name)[arguments.spec]
    theirs = None
    if arguments.kernelbench:  # first: a deadline then cuts what tells its rate as it goes
        sources = [proposal.source for proposal in distinct(spec, arguments.kernelbench_count, target.name, target.languages[0])]
        values = spec.cases[0].values
        theirs = kernelbench.rate(arguments.kernelbench, sources, values["rows"], values["cols"])
        print(f"KernelBench: {theirs}", file=sys.stderr, flush=True)
    figures = run(spec, spec.cases[: arguments.cases], arguments.count, target)
    if theirs is not None:
        figures |= {"kernelbench": theirs, "times_kernelbench": round(figures["complete_per_minute"] / theirs["per_minute"], 1)}
    print(tabulate([(name, value) for name, value in figures.items()], headers=["figure", "value"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
