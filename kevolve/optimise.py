"""What ``--kevolve-optimize`` does to one spec: search, check the best anew with fresh seeds, write it."""

from __future__ import annotations

import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kevolve import registry
from kevolve.evaluate import counterexamples
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.feedback import light
from kevolve.evaluate.outcome import Outcome, Status
from kevolve.evaluate.statistics import accepts, geometric_mean
from kevolve.evaluate.timing import Measurement, timed_pool
from kevolve.operators import bind, registered, traced
from kevolve.report import text
from kevolve.report.follow import follow
from kevolve.report.record import Environment, Speedup
from kevolve.search.accept import accept
from kevolve.search.budget import Budget
from kevolve.search.header import Header
from kevolve.search.home_lab import HomeLab
from kevolve.search.loop import Found, Progress, Search
from kevolve.search.node import Node, Proposal
from kevolve.search.pipeline import Pipeline
from kevolve.search.warm import about, inherited
from kevolve.searched import searched
from kevolve.spec.spec import Case, Draw, Spec, decode
from kevolve.spool import evaluator
from kevolve.store.graph_store import GraphStore

if TYPE_CHECKING:
    from kevolve.operators.trace import Trace
    from kevolve.run import Run
    from kevolve.search.crew import Operation
    from kevolve.spool.spool import Graded, Spool

DEFAULT = Budget(evaluations=6, minutes=1.5, stall=3)
# A kernel for a device is compiled anew for every kind of shape and dtype in the plan: its check takes ten times as long, its timing less.
DEVICE = Budget(evaluations=3, minutes=0.3, stall=2)
MODELLED = Budget(evaluations=40, minutes=60, stall=12)  # with a model, which takes minutes for a step
IN_FLIGHT = 4  # steps that wait for models at a time
ROUNDS = 3  # rounds evaluated at a time where timing does not share the cores: one slow candidate keeps nobody waiting
SLOW, PASSES, SURE = range(3)
AT_ONCE = 3  # cases of an acceptance under way where the device is held only to time
TRIES = 3  # how many of the best are checked anew before a search counts as failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A node that passed its fresh full check, and its timings by case id (none where its language cannot be timed).

    ``environment``: of the machine that measured it, where that is another one.
    """

    node: Node
    checked: Outcome
    measured: Mapping[str, Measurement]
    environment: Environment | None = None


class Optimiser:
    """One spec's way from a missing, wrong or slow kernel to an accepted one."""

    def __init__(self, run: Run, spec: Spec, cases: Sequence[Case]) -> None:
        self._run, self._spec, self._cases = run, spec, tuple(cases)
        self._progress = run.console.progress()
        self._resources = ExitStack()
        self._pools: dict[str, Pool] = {}
        self._number = 0  # of this run in the store
        self._searched: Pipeline | None = None  # what evaluates here

    @cached_property
    def _spool(self) -> Spool | None:
        """Where candidates are measured on another machine: what waits for it."""
        run = self._run
        if not run.settings.evaluator:
            return None
        kept = counterexamples.load(self._spec)
        return evaluator(run.settings, spec=self._spec, cases=self._cases, kept=kept, plan_seed=self._plan_seed, say=run.console.line)

    @cached_property
    def _plan_seed(self) -> int:
        """Of the development plan."""
        return secrets.randbits(62) if self._run.settings.seed is None else self._run.settings.seed + 1

    @cached_property
    def _device(self) -> Mapping[str, str]:
        """What candidates are timed on."""
        return self._run.target.device() if self._spool is None else self._spool.device()

    @cached_property
    def _present_elsewhere(self) -> Graded | None:
        """The present kernel as the other machine grades it; None where there is none."""
        file = self._run.kernel(self._spec).file
        if self._spool is None or file is None:
            return None
        present = Proposal(language=file.language, source=file.source, operator="file", idea=f"the present {file.path.name}")
        return next(self._spool.accept([present]))

    @cached_property
    def _languages(self) -> tuple[str, ...]:
        """Those that can be built here; unless the user named some, only the first whose kernels can be timed."""
        run = self._run
        usable = [language.name for language in run.languages(self._spec) if self._spool is not None or language.missing() is None]
        if run.settings.languages:
            return tuple(usable)
        timed = [name for name in usable if run.target.unmeasured(name) is None]
        return tuple((timed or usable)[:1])

    def run(self) -> None:
        """Search and write the best kernel, unless the present one is good enough."""
        if self._run.settings.optimise == "needed" and self._present_passes():
            return
        if not self._languages:
            reasons = "; ".join(f"{language.name}: {language.missing()}" for language in self._run.languages(self._spec))
            self._run.console.line(
                f"kevolve: {self._spec.name}: no language to write kernels in here ({reasons or 'the spec allows none'})"
            )
            return
        self._progress.searching(self._spec.name, self._run.target.name, ", ".join(self._languages))
        with ExitStack() as self._resources:
            store = self._resources.enter_context(GraphStore(self._run.settings.store))
            self._resources.callback(self._progress.close)
            found = self._search(store)
            self._run.evaluations[self._spec.nodeid] = found.evaluations
            self._run.searches.append(
                searched(found.graph, found.best, run=self._number, spec=self._spec.name, target=self._run.target.name)
            )
            self._accept_best(found)
            self._learn(found)

    def _present_passes(self) -> bool:
        """Whether the kernel that is there passes its properties and every selected case."""
        run, spec = self._run, self._spec
        if self._spool is not None:
            graded = self._present_elsewhere
            if graded is not None:
                self._keep_counterexample(graded.checked)
            return graded is not None and graded.checked.passed and all(one.outcome.passed for one in graded.measured.values())
        candidate = run.kernel(spec).candidate
        if candidate is None:
            return False
        if not run.properties(spec).passed:
            self._keep_counterexample(run.properties(spec))
            return False
        return not any(run.case(spec, case).failed for case in self._cases)

    # -- searching -------------------------------------------------------------------------------------------------

    def _search(self, store: GraphStore) -> Found:
        run, spec, seed = self._run, self._spec, self._run.settings.seed or 0
        self._number = store.start_run(arguments=sys.argv[1:], environment=dict(self._device))
        self._searched = self._started() if self._spool is None else None
        evaluate = self._searched or self._spool
        assert evaluate is not None, "one of both is there"
        trace = traced(spec, run.target.name)
        known = about(spec, self._cases, trace().outputs)
        return Search(
            spec=spec.nodeid,
            spec_hash=spec.hash,
            target=self._where,
            languages=self._languages,
            run=self._number,
            store=store,
            policy=registry.load("policies", run.settings.policy),
            policy_name=run.settings.policy,
            operators=self._operations(trace, seed),
            evaluate=evaluate,
            normalise=lambda name, source: registry.load("languages", name).normalise(source),
            budget=self._budget(),
            monotonic=time.monotonic,
            listener=self._heard,
            seeds=(*self._seeds(), *self._relatives(store, known)),
            in_flight=IN_FLIGHT,
            rounds=1 if self._shares_cores else ROUNDS,
            seed=seed,
            about=known,
        ).run()

    @property
    def _where(self) -> str:
        """A fitness measured on another device says nothing here."""
        return f"{self._run.target.name}: {self._device['name']}"

    @property
    def _shares_cores(self) -> bool:
        """Whether compiling disturbs what is timed."""
        return self._spool is None and self._run.target.shares_cores

    def _started(self) -> Pipeline:
        """What evaluates here, and what must be measured or made before the search begins."""
        pipeline = self._pipeline()
        self._resources.callback(pipeline.close)
        for case in self._cases if not self._shares_cores else ():  # now, so that the compiled baseline is made beside the search
            self._pool(case)
        if self._run.model:
            _ = self._run.peaks  # now, while nothing else runs
        return pipeline

    def _relatives(self, store: GraphStore, known: Mapping[str, Any]) -> Sequence[Proposal]:
        """The best kernels of earlier searches of the same operator."""
        return inherited(
            store,
            spec=self._spec.nodeid,
            spec_hash=self._spec.hash,
            target=self._where,
            about=known,
            languages=self._languages,
            most=3 if self._run.model else 2,  # a short search must not spend itself on old kernels
        )

    def _operations(self, trace: Callable[[], Trace], seed: int) -> tuple[Operation, ...]:
        """The operators, and with models the one that asks them."""
        model, pipeline = self._run.model, self._searched
        return bind(
            self._spec,
            self._run.target.name,
            random.Random(seed),
            operators=(*registered(self._run.settings.operators), *((model.operator,) if model else ())),
            arms={model.operator.name: model.arms} if model else None,
            lab=pipeline or (self._home_lab() if model else None),
            facts=lambda: self._facts(pipeline) if model else {},
            trace=trace,
        )

    def _budget(self) -> Budget:
        """The user's, completed by what is usual for such a search."""
        long = self._run.model is not None or self._spool is not None
        return Budget.parse(self._run.settings.budget, MODELLED if long else DEFAULT if self._shares_cores else DEVICE)

    def _learn(self, found: Found) -> None:
        """With a model, write back what the search taught."""
        run = self._run
        if run.model is None:
            return
        from kevolve.learning import write_back
        from kevolve.operators.agent.families import families

        write_back(
            run.settings,
            self._spec,
            found.graph,
            run=self._number,
            device=self._device,
            facts=self._facts(self._searched),
            families=families(traced(self._spec, run.target.name)()),
            say=run.console.line,
        )

    def _pipeline(self) -> Pipeline:
        run, spec, plan_seed = self._run, self._spec, self._plan_seed
        return Pipeline(
            spec=spec,
            cases=self._cases,
            target=run.target,
            workers=run.workers,
            plans={language: run.plan(spec, language, plan_seed, huge=False) for language in self._languages},
            kept=tuple(counterexamples.load(spec)),
            cache=run.cache,
            pool=self._pool,
            seed=run.seed,
            jobs=len(os.sched_getaffinity(0)),
            templates=run.templates,
        )

    def _home_lab(self) -> HomeLab:
        """What can be said here of candidates that are timed on another machine."""
        run = self._run
        return HomeLab(
            spec=self._spec,
            cases=self._cases,
            target=run.target,
            device=self._device["name"],
            arch=self._device.get("arch", ""),
            workers=run.workers,
            kept=tuple(counterexamples.load(self._spec)),
            cache=run.cache,
            seed=self._plan_seed,
            jobs=len(os.sched_getaffinity(0)),
        )

    def _heard(self, event: Progress) -> None:
        """Tell whoever watches; that a model is given up is a line of its own."""
        follow(self._progress, self._spec.name)(event)
        if event.kind == "silenced":
            self._run.console.line(f"  {event.reason}")

    def _facts(self, pipeline: Pipeline | None) -> Mapping[str, Any]:
        """What an operator with a model may know of the device and the cases: measured figures, absent where there are none yet."""
        if pipeline is None:
            return self._spool.facts() if self._spool is not None else {}
        peaks = self._run.peaks
        cases: dict[str, dict[str, Any]] = {}
        for case in self._cases:
            cases[case.id] = light(self._spec.work(**case.values), peaks) if self._spec.work is not None else {}
            if case.id in pipeline.baseline_us:
                cases[case.id]["baseline_us"] = pipeline.baseline_us[case.id]
        return {"cases": cases, "device": dict(self._run.target.device()), "peaks": asdict(peaks)}

    def _pool(self, case: Case) -> Pool:
        """The contents on which the search times a case, for all its candidates."""
        if case.id not in self._pools:
            pool = self._pools[case.id] = timed_pool(self._spec, case, seed=self._run.seed)
            self._resources.callback(pool.close)
            self._run.templates.begin(self._spec, case, target=self._run.target, pool=pool)
        return self._pools[case.id]

    def _seeds(self) -> tuple[Proposal, ...]:
        """The kernel that stands beside the test: what is there is a candidate too."""
        file = self._run.kernel(self._spec).file
        if file is None or file.language not in self._languages:
            return ()
        return (Proposal(language=file.language, source=file.source, operator="file", idea=f"the present {file.path.name}"),)

    def _keep_counterexample(self, outcome: Outcome) -> None:
        """What a kernel that was or might have been accepted failed on is replayed first from now on."""
        if "draw" in outcome.detail:
            draw = decode(self._spec, Draw.from_json(outcome.detail["draw"]))
            if counterexamples.fits(self._spec, draw):
                counterexamples.save(self._spec, draw)

    # -- accepting -------------------------------------------------------------------------------------------------

    def _accept_best(self, found: Found) -> None:
        """Check the best anew, with seeds no search has seen; write the first that passes, else the best that may be written."""
        ranked = sorted((node for node in found.graph.nodes if node.works), key=lambda node: (-node.fitness, node.id))
        distinct = list({node.normal_hash: node for node in reversed(ranked)}.values())[::-1]
        tried: list[Fresh] = []
        refused: Outcome | None = None
        for node, fresh, outcome in self._freshes(distinct[:TRIES]):
            if fresh is None:
                self._run.console.line(f"  node {node.id} fails its fresh check: {'; '.join(outcome.message.splitlines()[:2])}")
                refused = outcome
                continue
            tried.append(fresh)
            if self._rank(fresh) != SLOW:
                break
        best = max(tried, key=self._rank, default=None)  # the fittest of equals: max keeps the first
        if best is None:
            self._run.found_none(self._spec, _tried(found, refused))
        elif self._replaces_present(best):
            self._write(best)

    def _rank(self, fresh: Fresh) -> int:
        """How sure the gate is of a correct kernel: every interval above ``min_speedup``, none below it, or slow."""
        first = self._spec.baseline[0]
        least = {case.id: self._spec.least_speedup(case) for case in self._cases}
        if all(accepts(measurement.speedup.get(first), least[case]) for case, measurement in fresh.measured.items()):
            return SURE
        return PASSES if all(measurement.outcome.passed for measurement in fresh.measured.values()) else SLOW

    def _replaces_present(self, fresh: Fresh) -> bool:
        """Whether a fresh kernel is better than what is there: passing beats failing, then surely faster beats slower."""
        run, spec = self._run, self._spec
        if self._spool is not None:
            graded = self._present_elsewhere
            if graded is None or graded.failure is not None:
                return True
            present = graded.measured
        else:
            candidate = run.kernel(spec).candidate
            if candidate is None or not run.properties(spec).passed:
                return True
            if not fresh.measured or run.target.unmeasured(candidate.language) is not None:
                return False  # correct, and nothing says which is faster
            present = {case.id: run.measurement(spec, case, candidate) for case in self._cases}
        noisy = all(measurement.outcome.status is Status.NOT_MEASURED and measurement.speedup for measurement in present.values())
        if not noisy and any(measurement.outcome.status not in (Status.PASSED, Status.TOO_SLOW) for measurement in present.values()):
            return True
        if self._rank(fresh) != SLOW and any(not measurement.outcome.passed for measurement in present.values()):
            return True
        first = spec.baseline[0]
        before = geometric_mean(measurement.speedup[first].estimate for measurement in present.values())
        surely = geometric_mean(measurement.speedup[first].low for measurement in fresh.measured.values())
        if surely <= before:
            run.console.line(f"  kept the present kernel: {before:.2f}x, the best found surely {surely:.2f}x")
        return surely > before

    def _freshes(self, nodes: Sequence[Node]) -> Iterator[tuple[Node, Fresh | None, Outcome]]:
        """Nodes in order, each checked and timed anew: here when its turn comes, elsewhere all in one round."""
        if self._spool is None:
            yield from ((node, *self._fresh(node)) for node in nodes)
            return
        graded = {(one.proposal.language, one.proposal.source): one for one in self._spool.accept([node.proposal for node in nodes])}
        for node in nodes:
            found = graded[node.proposal.language, node.proposal.source]
            if found.failure is not None:
                self._keep_counterexample(found.checked)
                yield node, None, found.failure
            else:
                yield node, Fresh(node=node, checked=found.checked, measured=found.measured, environment=found.environment), found.checked

    def _fresh(self, node: Node) -> tuple[Fresh | None, Outcome]:
        """Full plan with a seed of its own in a new process, then every case timed; None with the first failure."""
        run, spec, language = self._run, self._spec, node.proposal.language
        seed = secrets.randbits(62)
        candidate = run.build(spec, node.proposal.source, language)
        if isinstance(candidate, Outcome):
            return None, candidate
        outcome = run.check(spec, candidate, run.plan(spec, language, seed))
        if not outcome.passed:
            self._keep_counterexample(outcome)
            return None, outcome
        measured: dict[str, Measurement] = {}
        for case, measurement in self._measured(candidate, seed) if run.target.unmeasured(language) is None else ():
            measured[case.id] = measurement
            if measurement.outcome.status not in (Status.PASSED, Status.TOO_SLOW):
                return None, measurement.outcome
        return Fresh(node=node, checked=outcome, measured=measured), outcome

    def _measured(self, candidate: Candidate, seed: int) -> Iterator[tuple[Case, Measurement]]:
        """Every case checked and timed. Where a device times, the next cases are compiled, checked and given their contents meanwhile."""
        run, spec = self._run, self._spec

        def one(case: Case) -> Measurement:
            return run.measure(spec, case, candidate, seed)

        if self._shares_cores:
            yield from ((case, one(case)) for case in self._cases)
            return
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="kevolve-case") as threads:
            found = list(zip(self._cases, threads.map(one, self._cases), strict=True))
        for case, measurement in found:
            crowded = "out of memory" in measurement.outcome.message  # what does not fit beside others may fit alone
            yield case, one(case) if crowded else measurement

    def _write(self, fresh: Fresh) -> None:
        """Write the kernel with its header; under review leave it beside the present one and print the difference."""
        run, spec, node = self._run, self._spec, fresh.node
        language = registry.load("languages", node.proposal.language)
        present = run.kernel(spec).file
        written = accept(
            spec,
            run.target.name,
            language,
            node.proposal.source,
            self._header(fresh),
            idea=node.proposal.idea,
            arch=present.arch if present is not None and present.language == language.name else None,
            review=run.settings.review,
        )
        self._progress.accepted(spec.name, run.settings.relative(written.path), self._shown(fresh.measured), spec.baseline[0])
        if written.diff is not None:
            for line in written.diff.splitlines():
                run.console.line(line)
            return
        run.forget(spec)
        run.keep(spec, fresh.checked, fresh.measured)

    def _shown(self, measured: Mapping[str, Measurement]) -> Speedup | None:
        """The least sure case's speedup over the first baseline: what may be said of the kernel as a whole."""
        first = self._spec.baseline[0]
        ratios = [measurement.speedup[first] for measurement in measured.values() if first in measurement.speedup]
        least = min(ratios, key=lambda ratio: ratio.low, default=None)
        return Speedup(estimate=least.estimate, low=least.low, high=least.high) if least is not None else None

    def _header(self, fresh: Fresh) -> Header:
        run, spec, node, measured = self._run, self._spec, fresh.node, fresh.measured
        language = registry.load("languages", node.proposal.language)
        there = fresh.environment.toolchain.get(language.name, {}) if fresh.environment is not None else None
        figures = [
            f"{case}: {ratio.estimate:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}] over {baseline}, {measurement.pairs} pairs"
            for case, measurement in measured.items()
            for baseline, ratio in measurement.speedup.items()
        ]
        reason = run.settings.untimed or run.target.unmeasured(node.proposal.language) or ""
        return Header(
            spec=spec.nodeid,
            target=run.target.name,
            parent=", ".join(f"node {parent}" for parent in node.proposal.parents) or node.proposal.operator,
            measured=tuple(figures) or (f"not measured: {reason}",),
            shapes=tuple(case.id for case in self._cases),
            hardware=self._device["name"],
            toolchain=", ".join(f"{name} {version}" for name, version in (language.versions() if there is None else there).items()),
        )


def _tried(found: Found, refused: Outcome | None) -> str:
    """What a search without a kernel ran into: the failure of the best at its fresh check, else the last one in the search."""
    failed = [node for node in found.graph.nodes if not node.works and not node.repeats]
    tried = [node.outcome for node in failed if not node.proposal.undrafted]
    last = refused or (tried[-1] if tried else None)
    evaluated = f"{text.plural(found.evaluations, 'evaluation')} ({found.reason})"
    told = [evaluated] if last is None else [f"{evaluated}, the last of them {last.status}", last.message]
    return "\n".join([*told, *dict.fromkeys(node.proposal.problem for node in failed if node.proposal.undrafted)])
