"""The evaluator whose work is done on another machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kevolve.evaluate.outcome import Outcome, Status
from kevolve.report import text
from kevolve.report.record import Environment
from kevolve.search.loop import Evaluated
from kevolve.search.node import Proposal
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.spool import SpoolError
from kevolve.spool.container import BadArchive
from kevolve.spool.declared import declare
from kevolve.spool.results import JobResult, Results
from kevolve.spool.round import Job, Kind, Round, in_order
from kevolve.spool.shelf import Sent, Shelf

if TYPE_CHECKING:
    from kevolve.evaluate.timing import Measurement

POLL_S = 1.0
REMIND_S = 600.0
SETTLED_S = 10.0  # a file that has not changed for so long is no longer being copied


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What an acceptance elsewhere found: the full check under a fresh seed, then every case's measurement until one failed.

    ``environment``: of the measuring machine, for the kernel's header.
    """

    proposal: Proposal
    checked: Outcome
    measured: Mapping[str, Measurement]
    environment: Environment

    @property
    def failure(self) -> Outcome | None:
        """The first outcome that refuses the kernel, or None; one that is only too slow is not refused."""
        outcomes = (self.checked, *(measured.outcome for measured in self.measured.values()))
        return next((outcome for outcome in outcomes if outcome.status not in (Status.PASSED, Status.TOO_SLOW)), None)


class Spool:
    """``Evaluate`` over a folder. A round that is there already, after a kill too, is awaited and not sent again.

    ``patience_s``: how long one wait may last (None: for ever), after which ``SpoolError`` is raised; the round stays.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spec: Spec,
        cases: tuple[Case, ...],
        target: str,
        plan_seed: int,
        kept: tuple[Draw, ...] = (),
        say: Callable[[str], None] = lambda _line: None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        patience_s: float | None = None,
    ) -> None:
        self._shelf = Shelf(folder)
        self._declared, self._files = declare(spec, cases)
        self._target, self._plan_seed = target, plan_seed
        self._kept = tuple(draw.to_json() for draw in kept)
        self._say, self._sleep, self._monotonic, self._now, self._patience_s = say, sleep, monotonic, now, patience_s
        self._last: Results | None = None

    # -- what a search asks ----------------------------------------------------------------------------------------

    def __call__(self, proposals: Sequence[Proposal]) -> Iterator[Evaluated]:
        """Leave a round and yield what comes back."""
        for proposal, result in self._done("quick", proposals):
            yield Evaluated(proposal=proposal, outcome=result.outcome, fitness=result.fitness, seconds=result.seconds)

    def accept(self, proposals: Sequence[Proposal]) -> Iterator[Graded]:
        """Have kernels checked anew and timed in pairs, under seeds drawn on the measuring machine, all in one round."""
        for proposal, result in self._done("accept", proposals):
            environment = self._answered().environment
            yield Graded(proposal=proposal, checked=result.outcome, measured=result.measured, environment=environment)

    def device(self) -> Mapping[str, str]:
        """The measuring machine's device (``name``, ``arch``, versions): from earlier results, else an empty round is sent for it."""
        known = self._shelf.device(self._target)
        return known if known is not None else self._answered().device

    def facts(self) -> Mapping[str, Any]:
        """What was measured of the spec's cases beside candidates; from the last results, else an empty round is sent for it."""
        return self._answered().facts

    def _answered(self) -> Results:
        """The last results of this spec."""
        if self._last is None:
            for sent in reversed(list(self._rounds(done=True))):
                with suppress(BadArchive):
                    self._last = self._shelf.results(sent)
                if self._last is not None:
                    return self._last
            empty = next((sent for sent in self._rounds(done=False) if not sent.asked.round.jobs), None)
            for _ in self._awaited([empty or self._send(())]):
                pass
        assert self._last is not None, "waiting ends with results"
        return self._last

    # -- rounds ----------------------------------------------------------------------------------------------------

    def _done(self, kind: Kind, proposals: Sequence[Proposal]) -> Iterator[tuple[Proposal, JobResult]]:
        """Every proposal with its result, as rounds come back: known ones at once, those under way awaited, the rest sent."""
        wanted: dict[str, list[Proposal]] = {}
        jobs = {}
        for proposal in proposals:
            job = Job(kind=kind, language=proposal.language, source=proposal.source)
            key = self._round((job,)).identities[0]
            jobs[key] = job
            wanted.setdefault(key, []).append(proposal)
        for result in self._known(set(wanted)):
            yield from ((proposal, result) for proposal in wanted.pop(result.job, ()))
        waiting = [sent for sent in self._rounds(done=False) if set(sent.asked.round.identities) & set(wanted)]
        under_way = {key for sent in waiting for key in sent.asked.round.identities}
        missing = [job for key, job in jobs.items() if key in wanted and key not in under_way]
        waiting += [self._send(missing)] if missing else []
        for results in self._awaited(waiting):
            for result in results.results:
                yield from ((proposal, result) for proposal in wanted.pop(result.job, ()))

    def _known(self, wanted: set[str]) -> Iterator[JobResult]:
        """Results that were taken before, by a search that was killed before it stored them; one that ran out of time is tried again."""
        for sent in self._rounds(done=True):
            if not wanted & set(sent.asked.round.identities):
                continue
            with suppress(BadArchive):
                found = self._shelf.results(sent)
                self._last = found or self._last
                for result in found.results if found is not None else ():
                    if result.job in wanted and result.outcome.status is not Status.TIMEOUT:
                        wanted.discard(result.job)
                        yield result

    def _rounds(self, *, done: bool) -> Iterator[Sent]:
        """This spec's rounds with these cases for this target."""
        for sent in self._shelf.rounds(done=done):
            round = sent.asked.round
            if (round.declared, round.target) == (self._declared, self._target):
                yield sent

    def _round(self, jobs: Sequence[Job]) -> Round:
        return Round(
            declared=self._declared,
            target=self._target,
            jobs=in_order(jobs),
            plan_seed=self._plan_seed,
            kept=self._kept,
            files=self._files,
            kevolve=version("kevolve"),
        )

    def _send(self, jobs: Sequence[Job]) -> Sent:
        return self._shelf.add(self._round(jobs))

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _awaited(self, waiting: list[Sent]) -> Iterator[Results]:
        """The results of every round as they come; what came is put aside."""
        begun = told = self._monotonic()
        for sent in waiting:
            if not sent.results.exists():
                self._say(waiting_line(sent))
        refused: dict[Path, str] = {}
        while waiting:
            for sent in list(waiting):
                results = self._arrived(sent, refused)
                if results is not None:
                    waiting.remove(sent)
                    self._last = results
                    self._shelf.take(sent)  # a search that is killed now finds them there, as ``_known`` does
                    yield results
            now = self._monotonic()
            if waiting and self._patience_s is not None and now - begun > self._patience_s:
                raise SpoolError(f"no results of {waiting[0].path} after {text.duration(now - begun)}; the round stays there")
            if waiting and now - told > REMIND_S:
                told = now
                self._say(f"kevolve: still waiting for {waiting[0].results.name} ({text.duration(now - begun)})")
            if waiting:
                self._sleep(POLL_S)

    def _arrived(self, sent: Sent, refused: dict[Path, str]) -> Results | None:
        """Results that can be believed. Of others the reason is told once, when the file is no longer being copied."""
        try:
            return self._shelf.results(sent)
        except BadArchive as error:
            with suppress(OSError):
                settled = self._now() - sent.results.stat().st_mtime > SETTLED_S
                if settled and refused.get(sent.path) != str(error):
                    refused[sent.path] = str(error)
                    self._say(f"kevolve: results refused: {error}; put the right ones there, the search goes on waiting")
            return None


def waiting_line(sent: Sent) -> str:
    """What waits, and what to do elsewhere."""
    jobs = sent.asked.round.jobs
    kinds = {kind: sum(job.kind == kind for job in jobs) for kind in ("quick", "accept")}
    parts = [text.plural(kinds["quick"], "candidate")] if kinds["quick"] else []
    parts += [f"{text.plural(kinds['accept'], 'kernel')} to accept"] if kinds["accept"] else []
    what = " and ".join(parts) or "a question about the device"
    return (
        f"kevolve: {sent.asked.round.declared.name}: {what} in {sent.path}; "
        f"where the device is: kevolve evaluate {sent.path.name}, then bring {sent.results.name} back beside it"
    )
