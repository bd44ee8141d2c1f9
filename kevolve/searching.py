"""The search for one spec's kernel: what evaluates, who proposes, how long; here, or beside the acceptance of another spec's kernel."""

from __future__ import annotations

import os
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property, partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from kevolve import registry
from kevolve.evaluate import counterexamples
from kevolve.evaluate.foreseen import known_cases
from kevolve.evaluate.pools import Pools
from kevolve.operators import bind, registered, traced
from kevolve.search.budget import Budget
from kevolve.search.crew import Evaluate, Evaluated
from kevolve.search.home_lab import HomeLab
from kevolve.search.loop import Found, Progress, Search
from kevolve.search.node import Proposal
from kevolve.search.pipeline import Pipeline
from kevolve.search.warm import about, inherited
from kevolve.spec.spec import Case, Spec
from kevolve.spool import evaluator
from kevolve.store.graph_store import GraphStore

if TYPE_CHECKING:
    from kevolve.operators.trace import Trace
    from kevolve.run import Run
    from kevolve.search.crew import Operation
    from kevolve.spool.spool import Spool

DEFAULT = Budget(evaluations=6, minutes=1.5, stall=3)
# A kernel for a device is compiled anew for every kind of shape and dtype in the plan: its check takes ten times as long, its timing less.
DEVICE = Budget(evaluations=3, minutes=0.5, stall=2)
MODELLED = Budget(evaluations=40, minutes=60, stall=12)  # with a model, which takes minutes for a step
IN_FLIGHT = 4  # steps that wait for models at a time
ROUNDS = 3  # rounds evaluated at a time where timing does not share the cores: one slow candidate keeps nobody waiting
BATCH = 4  # candidates in a round
CARRIED = 8  # in one that is carried to another machine: it takes along what models are about to say
_ENDS_S = 5.0  # for an abandoned search to see that it is


class Abandoned(Exception):
    """The run is over: what a search evaluates now says nothing of its candidates."""


class Searching:
    """The search for a kernel of ``spec``, and what it holds until ``close``: the store, contents of timed calls."""

    def __init__(self, run: Run, spec: Spec, cases: Sequence[Case]) -> None:
        self._run, self._spec, self._cases = run, spec, tuple(cases)
        self._resources = ExitStack()
        self._abandoned = threading.Event()
        self._beside: _Beside | None = None
        self.number = 0  # of this run in the store
        self.pipeline: Pipeline | None = None  # what evaluates here

    @cached_property
    def _pools(self) -> Pools:
        """The contents on which the search times its cases, for all its candidates."""
        run = self._run
        begin = partial(run.templates.begin, self._spec, target=run.target)
        pools = Pools(self._spec, seed=run.seed, quiet=run.workers.quiet, made=lambda case, pool: begin(case, pool=pool))
        self._resources.callback(pools.close)
        return pools

    @cached_property
    def spool(self) -> Spool | None:
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
    def device(self) -> Mapping[str, str]:
        """What candidates are timed on."""
        return self._run.target.device() if self.spool is None else self.spool.device()

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Those that can be built here; unless the user named some, only the first whose kernels can be timed."""
        run = self._run
        usable = [language.name for language in run.languages(self._spec) if self.spool is not None or language.missing() is None]
        if run.settings.languages:
            return tuple(usable)
        timed = [name for name in usable if run.target.unmeasured(name) is None]
        return tuple((timed or usable)[:1])

    # -- when ------------------------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Search from now on in a thread; False where that must wait: for a model, another machine, cores that a timing needs alone."""
        if self._run.settings.evaluator or self._run.model is not None or self.shares_cores or not self.languages:
            return False
        self._beside = _Beside(self)
        return True

    def found(self, listener: Callable[[Progress], None]) -> Found:
        """What the search found, and ``listener`` is told all that it did; of one that was begun, what it did so far at once."""
        return self.search(listener) if self._beside is None else self._beside.found(listener)

    def search(self, listener: Callable[[Progress], None]) -> Found:
        """Search now."""
        return self._search(self._resources.enter_context(GraphStore(self._run.settings.store)), listener)

    def abandon(self) -> None:
        """Nobody waits for it any more: what comes of its candidates from now on is not recorded."""
        self._abandoned.set()

    def close(self) -> None:
        """Let go of what it holds; of a search that goes on, after an interrupt, once it has seen that nobody waits for it."""
        self.abandon()
        if self._beside is not None:
            self._beside.join(_ENDS_S)
        self._resources.close()

    def _until_abandoned(self, evaluate: Evaluate) -> Evaluate:
        def evaluated(proposals: Sequence[Proposal]) -> Iterator[Evaluated]:
            for one in evaluate(proposals):
                if self._abandoned.is_set():
                    raise Abandoned
                yield one

        return evaluated

    # -- with what -------------------------------------------------------------------------------------------------

    def _search(self, store: GraphStore, listener: Callable[[Progress], None]) -> Found:
        run, spec, seed = self._run, self._spec, self._run.settings.seed or 0
        self.number = store.start_run(arguments=sys.argv[1:], environment=dict(self.device))
        self.pipeline = self._started() if self.spool is None else None
        evaluate = self.pipeline or self.spool
        assert evaluate is not None, "one of both is there"
        trace = traced(spec, run.target.name)
        known = about(spec, self._cases, trace().outputs)
        return Search(
            spec=spec.nodeid,
            spec_hash=spec.hash,
            target=self.where,
            languages=self.languages,
            run=self.number,
            store=store,
            policy=registry.load("policies", run.settings.policy),
            policy_name=run.settings.policy,
            operators=self._operations(trace, seed),
            evaluate=self._until_abandoned(evaluate),
            normalise=lambda name, source: registry.load("languages", name).normalise(source),
            budget=self._budget(),
            monotonic=time.monotonic,
            listener=listener,
            seeds=(*self._seeds(), *self._relatives(store, known)),
            in_flight=IN_FLIGHT,
            rounds=1 if self.shares_cores or self.spool is not None else ROUNDS,
            batch=BATCH if self.spool is None else CARRIED,
            gathers=self.spool is not None,
            seed=seed,
            about=known,
        ).run()

    @property
    def where(self) -> str:
        """A fitness measured on another device says nothing here."""
        return f"{self._run.target.name}: {self.device['name']}"

    @property
    def shares_cores(self) -> bool:
        """Whether compiling disturbs what is timed."""
        return self.spool is None and self._run.target.shares_cores

    def _started(self) -> Pipeline:
        """What evaluates here, and what must be measured or made before the search begins."""
        pipeline = self._pipeline()
        self._resources.callback(pipeline.close)
        if self._run.model:
            _ = self._run.peaks  # now, while nothing else runs
        if not self.shares_cores:
            self._pools.begin(self._cases)  # beside the search, and the compiled baselines with them
        return pipeline

    def _relatives(self, store: GraphStore, known: Mapping[str, Any]) -> Sequence[Proposal]:
        """The best kernels of earlier searches of the same operator."""
        return inherited(
            store,
            spec=self._spec.nodeid,
            spec_hash=self._spec.hash,
            target=self.where,
            about=known,
            languages=self.languages,
            most=3 if self._run.model else 2,  # a short search must not spend itself on old kernels
        )

    def _operations(self, trace: Callable[[], Trace], seed: int) -> tuple[Operation, ...]:
        """The operators, and with models the one that asks them."""
        model, pipeline = self._run.model, self.pipeline
        return bind(
            self._spec,
            self._run.target.name,
            random.Random(seed),
            operators=(*registered(self._run.settings.operators), *((model.operator,) if model else ())),
            arms={model.operator.name: model.arms} if model else None,
            lab=pipeline or (self._home_lab() if model else None),
            facts=lambda: self.facts(pipeline) if model else {},
            trace=trace,
        )

    def _budget(self) -> Budget:
        """The user's, completed by what is usual for such a search."""
        long = self._run.model is not None or self.spool is not None
        return Budget.parse(self._run.settings.budget, MODELLED if long else DEFAULT if self.shares_cores else DEVICE)

    def _pipeline(self) -> Pipeline:
        run, spec, plan_seed = self._run, self._spec, self._plan_seed
        return Pipeline(
            spec=spec,
            cases=self._cases,
            target=run.target,
            workers=run.workers,
            plans={language: run.plan(spec, language, plan_seed, huge=False) for language in self.languages},
            kept=tuple(counterexamples.load(spec)),
            cache=run.cache,
            pool=self._pools.of,
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
            device=self.device["name"],
            arch=self.device.get("arch", ""),
            workers=run.workers,
            kept=tuple(counterexamples.load(self._spec)),
            cache=run.cache,
            seed=self._plan_seed,
            jobs=len(os.sched_getaffinity(0)),
        )

    def facts(self, pipeline: Pipeline | None) -> Mapping[str, Any]:
        """What an operator with a model may know of the device and the cases: measured figures, absent where there are none yet."""
        if pipeline is None:
            return {**self.spool.facts(), "device": dict(self.device)} if self.spool is not None else {}
        peaks = self._run.peaks
        cases = known_cases(self._spec, self._cases, peaks, unread=self._run.unread(self._spec))
        for case in self._cases:
            if case.id in pipeline.baseline_us:
                cases[case.id]["baseline_us"] = pipeline.baseline_us[case.id]
        return {"cases": cases, "device": dict(self._run.target.device()), "peaks": asdict(peaks)}

    def _seeds(self) -> tuple[Proposal, ...]:
        """The kernel that stands beside the test: what is there is a candidate too."""
        file = self._run.kernel(self._spec).file
        if file is None or file.language not in self.languages:
            return ()
        return (Proposal(language=file.language, source=file.source, operator="file", idea=f"the present {file.path.name}"),)


class _Beside:
    """A search in a thread of its own. Its events wait for whoever asks what it found."""

    def __init__(self, searching: Searching) -> None:
        self._events: SimpleQueue[Progress | None] = SimpleQueue()
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kevolve-search")
        self._ended = thread.submit(searching.search, self._events.put)
        self._ended.add_done_callback(lambda _: self._events.put(None))
        thread.shutdown(wait=False)

    def found(self, listener: Callable[[Progress], None]) -> Found:
        """Wait for it; raises what it raised."""
        for event in iter(self._events.get, None):
            listener(event)
        return self._ended.result()

    def join(self, timeout_s: float) -> None:
        """Wait for its end, but not for ever."""
        wait([self._ended], timeout_s)
