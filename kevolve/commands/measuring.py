"""One measuring process: works off jobs of one round on one device and prints a line of JSON for each.

``python -m kevolve.commands.measuring``, started by ``kevolve evaluate``; an order comes on standard input, whose end ends the process.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from io import FileIO
from pathlib import Path
from typing import Any

from kevolve.evaluate import counterexamples
from kevolve.evaluate.foreseen import known_cases
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan
from kevolve.evaluate.pools import Pools
from kevolve.evaluate.timing import Measurement
from kevolve.report.progress import Listener
from kevolve.report.record import Record
from kevolve.run import Run
from kevolve.search.node import Proposal
from kevolve.search.pipeline import Pipeline
from kevolve.settings import Settings
from kevolve.spec.spec import Draw, decode
from kevolve.spool import SpoolError
from kevolve.spool import round as round_file
from kevolve.spool.declared import rebuild
from kevolve.spool.results import JobResult
from kevolve.spool.round import Job, Round


class Silent:
    """A console on which nothing is shown: the process that started this one tells what came of each job."""

    def line(self, text: str) -> None:
        """Nowhere."""

    def progress(self) -> Listener:
        """Nobody follows a search here."""
        raise NotImplementedError("no search runs in a measuring process")

    def uncaptured(self) -> AbstractContextManager[None]:
        """Nothing is captured."""
        return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grading:
    """What all acceptances of a round share: the seed, the property plan by language, the contents of the timed calls."""

    seed: int
    plan: Callable[[str], Plan]
    pools: Pools


class Measuring:
    """One round on one device."""

    def __init__(self, round: Round, *, work: Path, cache: Path, cores: int) -> None:
        """``work``: a folder of this process alone; the spec's files are below its ``modules``, which is on ``sys.path``."""
        settings = Settings(
            rootdir=work, target=round.target, seed=round.plan_seed, sys_path=tuple(path for path in sys.path if path), cache=cache
        )
        self._round, self._cores = round, cores
        self._run = Run(settings, Silent())
        self._spec = rebuild(round.declared)
        self._stack = ExitStack()
        for draw in round.kept:
            counterexamples.save(self._spec, decode(self._spec, Draw.from_json(draw)))  # replayed first, as at home

    @cached_property
    def _grading(self) -> Grading:
        """Drawn when the first acceptance begins: all that are asked for are known then, and nobody has seen the seed."""
        run, seed = self._run, secrets.randbits(62)
        pools = Pools(self._spec, seed=seed, quiet=run.workers.quiet)
        self._stack.callback(pools.close)
        return Grading(seed=seed, plan=cache(partial(self._grading_plan, seed)), pools=pools)

    def _grading_plan(self, seed: int, language: str) -> Plan:
        return self._run.plan(self._spec, language, seed)

    @cached_property
    def _pools(self) -> Pools:
        """The contents on which quick jobs are timed."""
        run = self._run
        begin = partial(run.templates.begin, self._spec, target=run.target)
        pools = Pools(self._spec, seed=self._round.plan_seed, quiet=run.workers.quiet, made=lambda case, pool: begin(case, pool=pool))
        self._stack.callback(pools.close)
        return pools

    def results(self, jobs: Sequence[Job]) -> Iterator[JobResult]:
        """Each job's result as it is there: the quick ones side by side, then the others."""
        quick = [job for job in jobs if job.kind == "quick"]
        identities = {(job.language, job.source): self._round.identity(job) for job in quick}
        problem = self._run.spec_problem(self._spec) if jobs else None
        if problem is not None:
            refused = Outcome(status=Status.RUNTIME_ERROR, stage=Stage.LOAD, message=problem, detail={"reference": True})
            yield from (JobResult(job=self._round.identity(job), outcome=refused) for job in jobs)
            return
        proposals = [Proposal(language=job.language, source=job.source, operator="spool", idea="") for job in quick]
        pipeline = self._pipeline({job.language for job in quick}) if quick else None
        for found in pipeline(proposals) if pipeline is not None else ():
            key = identities[found.proposal.language, found.proposal.source]
            outcome = _with_baselines(found.outcome, getattr(pipeline, "baseline_us", {}))
            yield JobResult(job=key, outcome=outcome, fitness=found.fitness, seconds=found.seconds)
        for job in jobs:
            if job.kind == "accept":
                yield self._accepted(job)

    def _pipeline(self, languages: set[str]) -> Pipeline:
        """The evaluation that a search runs at home, on the development plan."""
        run, spec = self._run, self._spec
        if not run.target.shares_cores:
            self._pools.begin(spec.cases)  # beside the checks, and the compiled baselines with them
        return Pipeline(
            spec=spec,
            cases=spec.cases,
            target=run.target,
            workers=run.workers,
            plans={language: run.plan(spec, language, self._round.plan_seed, huge=False) for language in languages},
            kept=tuple(counterexamples.load(spec)),
            cache=run.cache,
            pool=self._pools.of,
            seed=self._round.plan_seed,
            jobs=self._cores,
            templates=run.templates,
        )

    def _accepted(self, job: Job) -> JobResult:
        """The full plan and every case timed, under a seed that is drawn here and that nobody has seen."""
        began = time.monotonic()
        done = partial(JobResult, job=self._round.identity(job))
        run, spec, grading = self._run, self._spec, self._grading
        candidate = run.build(spec, job.source, job.language)
        if isinstance(candidate, Outcome):
            return done(outcome=candidate, seconds=time.monotonic() - began)
        timed = run.target.unmeasured(job.language) is None
        if timed and not run.target.shares_cores:
            grading.pools.begin(spec.cases)  # beside the check
        checked = run.check(spec, candidate, grading.plan(job.language))
        measured: dict[str, Measurement] = {}
        for case in spec.cases if timed and checked.passed else ():
            measured[case.id] = run.measure(spec, case, candidate, grading.seed, pools=grading.pools)
            if measured[case.id].outcome.status not in (Status.PASSED, Status.TOO_SLOW):
                break
        return done(outcome=checked, measured=measured, seconds=time.monotonic() - began)

    def about(self) -> dict[str, Any]:
        """Where this is measured: the record's environment, the device as the target describes it, and what is known before any candidate.

        The device's peaks are measured now, while nothing else runs, and kept; the cases' floors follow where the spec says its work.
        """
        peaks = self._run.peaks
        known = known_cases(self._spec, self._spec.cases, peaks, unread=self._run.unread(self._spec))
        facts = {"peaks": asdict(peaks), "cases": {case: each for case, each in known.items() if each}}
        environment = replace(self._run.environment, commit=None)  # the folder is none of a repository's
        return {"record": Record(environment=environment).to_json(), "device": dict(self._run.target.device()), "facts": facts}

    def close(self) -> None:
        """End every process and give back what was held."""
        self._stack.close()
        self._run.finish()


def _with_baselines(outcome: Outcome, baseline_us: Mapping[str, float]) -> Outcome:
    """The outcome with what the first baseline took beside it, by case: prompts written elsewhere need it."""
    timed = outcome.status in (Status.PASSED, Status.TOO_SLOW) and baseline_us
    return replace(outcome, detail={**outcome.detail, "baseline_us": dict(baseline_us)}) if timed else outcome


def without_paths(value: Any, paths: Mapping[str, str]) -> Any:
    """JSON data with this machine's folders replaced in every text: compilers and tracebacks name them."""
    if isinstance(value, str):
        for path, short in paths.items():
            value = value.replace(path, short)
        return value
    if isinstance(value, dict):
        return {name: without_paths(inner, paths) for name, inner in value.items()}
    return [without_paths(inner, paths) for inner in value] if isinstance(value, list) else value


def work_off(order: Mapping[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Tell where this is, then what came of every job that the order names."""
    work = Path(order["work"])
    sys.path.insert(0, str(work / "modules"))
    asked = round_file.read(Path(order["round"]))
    round = asked.round
    if asked.sha256 != order["sha256"]:
        raise SpoolError(f"{order['round']} was replaced while it is worked off")
    wanted = set(order["jobs"])
    measuring = Measuring(round, work=work, cache=Path(order["cache"]), cores=order["cores"])
    paths = {f"{work / 'modules'}/": "", str(work): "<work>", str(Path(order["cache"])): "<cache>", str(Path.home()): "~"}
    try:
        say({"about": without_paths(measuring.about(), paths)})
        for result in measuring.results([job for job in round.jobs if round.identity(job) in wanted]):
            say({"result": without_paths(result.to_json(), paths)})
    finally:
        measuring.close()


def _end_with_parent(orders: FileIO) -> None:
    """Standard input ends when the process that started this one does, however that happens."""
    orders.read()
    os._exit(1)


def main() -> None:
    """Read the order, work it off. What libraries print goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the answer of the process that started this one: it ends our input
    orders = FileIO(0, closefd=False)  # unbuffered: a thread that waits in a buffer would hold its lock when the interpreter ends
    order = json.loads(orders.readline())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, args=(orders,), daemon=True).start()

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    work_off(order, say)
    answers.close()


if __name__ == "__main__":
    main()
