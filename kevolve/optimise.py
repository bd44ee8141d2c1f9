"""What ``--kevolve-optimize`` does to one spec: search, check the best anew with fresh seeds, write it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kevolve import registry
from kevolve.evaluate import counterexamples
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import ChildFailed
from kevolve.evaluate.outcome import Outcome, Status
from kevolve.evaluate.runner import SideFailed
from kevolve.evaluate.statistics import accepts, geometric_mean
from kevolve.evaluate.timing import Measurement
from kevolve.operators import traced
from kevolve.report import text
from kevolve.report.follow import follow
from kevolve.report.record import Environment, Speedup
from kevolve.search.accept import accept
from kevolve.search.header import Header
from kevolve.search.loop import Found, Progress
from kevolve.search.node import Node, Proposal
from kevolve.searched import searched
from kevolve.searching import Searching
from kevolve.spec.spec import Case, Draw, Spec, decode

if TYPE_CHECKING:
    from kevolve.run import Run
    from kevolve.spool.spool import Graded

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


class Turns:
    """A run's specs, one after another. Where a device times, the next one's search begins beside the acceptance of a kernel."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._taken: set[str] = set()
        self._begun: dict[str, Optimiser] = {}  # whose search runs already

    def take(self, spec: Spec, cases: Sequence[Case], coming: Iterable[tuple[Spec, Sequence[Case]]]) -> None:
        """``spec`` as ``Run.optimise_if_needed`` says; once."""
        if spec.nodeid in self._taken:
            return
        self._taken.add(spec.nodeid)
        optimiser = self._begun.pop(spec.nodeid, None) or self._optimiser(spec, cases)
        if optimiser is not None:
            optimiser.run(then=lambda: self._begin(coming))

    def _optimiser(self, spec: Spec, cases: Sequence[Case]) -> Optimiser | None:
        return Optimiser(self._run, spec, tuple(cases) or spec.cases) if self._run.optimisable(spec) else None

    def _begin(self, coming: Iterable[tuple[Spec, Sequence[Case]]]) -> None:
        """Begin the next search, if it can be begun."""
        following = next(((spec, cases) for spec, cases in coming if spec.nodeid not in self._taken and spec.kernel is None), None)
        optimiser = self._optimiser(*following) if following is not None else None
        if following is not None and optimiser is not None and optimiser.begin():
            self._begun[following[0].nodeid] = optimiser

    def abandon(self) -> None:
        """The run ends: what comes of candidates from now on is not recorded."""
        for optimiser in self._begun.values():
            optimiser.abandon()

    def close(self) -> None:
        """After ``abandon``, when the processes that evaluate have ended."""
        for optimiser in self._begun.values():
            optimiser.close()


class Optimiser:
    """One spec's way from a missing, wrong or slow kernel to an accepted one."""

    def __init__(self, run: Run, spec: Spec, cases: Sequence[Case]) -> None:
        self._run, self._spec, self._cases = run, spec, tuple(cases)
        self._searching = Searching(run, spec, cases)

    @cached_property
    def _present_elsewhere(self) -> Graded | None:
        """The present kernel as the other machine grades it; None where there is none."""
        file = self._run.kernel(self._spec).file
        if self._searching.spool is None or file is None:
            return None
        present = Proposal(language=file.language, source=file.source, operator="file", idea=f"the present {file.path.name}")
        return next(self._searching.spool.accept([present]))

    def begin(self) -> bool:
        """Search from now on, beside what else is done, where it is sure that a kernel is wanted; whether it does."""
        wanted = self._run.settings.optimise == "all" or self._run.kernel(self._spec).file is None
        return wanted and self._searching.begin()

    def _measure_once(self) -> None:
        """What every timing needs of a device, while nothing else runs; a case that cannot be timed for it says so."""
        if not self._searching.shares_cores and self._searching.spool is None:
            with contextlib.suppress(ChildFailed, SideFailed):
                self._run.figures.both()

    def abandon(self) -> None:
        """The run ends before its turn came."""
        self._searching.abandon()

    def close(self) -> None:
        """After ``abandon``, and when the processes that evaluate have ended."""
        self._searching.close()

    def run(self, then: Callable[[], None] = lambda: None) -> None:
        """Search and write the best kernel, unless the present one is good enough. ``then``: called when the search is over."""
        run, spec, searching = self._run, self._spec, self._searching
        if run.settings.optimise == "needed" and self._present_passes():
            return
        if not searching.languages:
            reasons = "; ".join(f"{language.name}: {language.missing()}" for language in run.languages(spec))
            run.console.line(f"kevolve: {spec.name}: no language to write kernels in here ({reasons or 'the spec allows none'})")
            return
        self._progress = run.console.progress()
        self._progress.searching(spec.name, run.target.name, ", ".join(searching.languages))
        try:
            found = searching.found(self._heard)
            run.evaluations[spec.nodeid] = found.evaluations
            run.searches.append(searched(found.graph, found.best, run=searching.number, spec=spec.name, target=run.target.name))
            self._measure_once()
            then()
            self._accept_best(found)
            self._learn(found)
        finally:
            self._progress.close()
            searching.close()

    def _present_passes(self) -> bool:
        """Whether the kernel that is there passes its properties and every selected case."""
        run, spec = self._run, self._spec
        if self._searching.spool is not None:
            graded = self._present_elsewhere
            if graded is not None:
                self._keep_counterexample(graded.checked)
            return graded is not None and graded.checked.passed and all(one.outcome.passed for one in graded.measured.values())
        kernel = run.kernel(spec)
        if kernel.candidate is None:
            return False
        present = "callable" if kernel.file is None else kernel.file.path.name
        cases = text.plural(len(self._cases), "case")
        run.console.line(f"kevolve: {spec.name}: the present {present} is checked and timed first ({cases})")
        if not run.properties(spec).passed:
            self._keep_counterexample(run.properties(spec))
            return False
        return not any(run.case(spec, case).failed for case in self._cases)

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
            run=self._searching.number,
            device=self._searching.device,
            facts=self._searching.facts(self._searching.pipeline),
            families=families(traced(self._spec, run.target.name)()),
            say=run.console.line,
        )

    def _heard(self, event: Progress) -> None:
        """Tell whoever watches; that a model is given up is a line of its own."""
        follow(self._progress, self._spec.name)(event)
        if event.kind == "silenced":
            self._run.console.line(f"  {event.reason}")

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
        if self._searching.spool is not None:
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
        if self._searching.spool is None:
            yield from ((node, *self._fresh(node)) for node in nodes)
            return
        proposed = [node.proposal for node in nodes]
        graded = {(one.proposal.language, one.proposal.source): one for one in self._searching.spool.accept(proposed)}
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
        cases = self._cases if run.target.unmeasured(language) is None else ()
        in_turn = self._one_by_one if self._searching.shares_cores else self._at_once
        measured: dict[str, Measurement] = {}
        outcome, measurements = in_turn(candidate, cases, seed)
        if not outcome.passed:
            self._keep_counterexample(outcome)
            return None, outcome
        for case, measurement in measurements:
            measured[case.id] = measurement
            if measurement.outcome.status not in (Status.PASSED, Status.TOO_SLOW):
                return None, measurement.outcome
        return Fresh(node=node, checked=outcome, measured=measured), outcome

    def _checked(self, candidate: Candidate, seed: int) -> Outcome:
        return self._run.check(self._spec, candidate, self._run.plan(self._spec, candidate.language, seed))

    def _one_by_one(self, candidate: Candidate, cases: Sequence[Case], seed: int) -> tuple[Outcome, Iterable[tuple[Case, Measurement]]]:
        """The whole plan, then case after case as they are asked for: whatever runs beside a timing takes its cores."""
        outcome = self._checked(candidate, seed)
        return outcome, ((case, self._run.measure(self._spec, case, candidate, seed)) for case in cases if outcome.passed)

    def _at_once(self, candidate: Candidate, cases: Sequence[Case], seed: int) -> tuple[Outcome, Iterable[tuple[Case, Measurement]]]:
        """The plan and some cases beside each other: a device is had alone only for pairs of a kernel that passed its plan."""
        with ThreadPoolExecutor(max_workers=1 + AT_ONCE, thread_name_prefix="kevolve-case") as threads:
            checking = threads.submit(self._checked, candidate, seed)

            def one(case: Case) -> Measurement:
                return self._run.measure(self._spec, case, candidate, seed, right=lambda: checking.result().passed)

            measured = list(threads.map(one, cases))
            outcome = checking.result()
        if _crowded(outcome):
            return self._one_by_one(candidate, cases, seed)
        alone = (
            self._run.measure(self._spec, case, candidate, seed) if _crowded(found.outcome) else found
            for case, found in zip(cases, measured, strict=True)
        )
        return outcome, zip(cases, alone, strict=True)

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
            hardware=self._searching.device["name"],
            toolchain=", ".join(f"{name} {version}" for name, version in (language.versions() if there is None else there).items()),
        )


def _crowded(outcome: Outcome) -> bool:
    """Whether what failed beside others may pass alone: the device's memory was shared."""
    return not outcome.passed and "out of memory" in outcome.message


def _tried(found: Found, refused: Outcome | None) -> str:
    """What a search without a kernel ran into: the failure of the best at its fresh check, else the last one in the search."""
    failed = [node for node in found.graph.nodes if not node.works and not node.repeats]
    tried = [node.outcome for node in failed if not node.proposal.undrafted]
    last = refused or (tried[-1] if tried else None)
    evaluated = f"{text.plural(found.evaluations, 'evaluation')} ({found.reason})"
    told = [evaluated] if last is None else [f"{evaluated}, the last of them {last.status}", last.message]
    return "\n".join([*told, *dict.fromkeys(node.proposal.problem for node in failed if node.proposal.undrafted)])
