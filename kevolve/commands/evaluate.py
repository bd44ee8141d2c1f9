"""``kevolve evaluate``: work rounds off that a search has left as archives, and leave their results as archives."""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kevolve import registry
from kevolve.files import write_atomically
from kevolve.report import text, words
from kevolve.report.fields import Fields, RecordError
from kevolve.report.progress import gave
from kevolve.report.record import Record
from kevolve.spool import SpoolError
from kevolve.spool import round as round_file
from kevolve.spool.container import BadArchive
from kevolve.spool.journal import SUFFIX as JOURNAL
from kevolve.spool.journal import Journal
from kevolve.spool.results import SUFFIX as RESULTS
from kevolve.spool.results import JobResult, Results
from kevolve.spool.results import read as read_results
from kevolve.spool.round import ReadRound
from kevolve.spool.shelf import results_path
from kevolve.targets import Target

DONE, NOT_DONE = 0, 1
_INTERRUPTED = 130  # as shells have it
_END_S = 10.0
_DESCRIPTION = """Work off rounds of candidates that `pytest --kevolve-optimize --kevolve-evaluator spool:DIR` left elsewhere.
No network and no key is needed. A round that was begun goes on where it was."""
_EPILOG = """The spec's Python code in an archive runs with your rights, as its test would:
take archives only from whom you would take a test. Its candidates are confined as under pytest.

exit status:
  0  every round is worked off
  1  one is not: the text says why; what is done is kept, run the command again
  2  the command line was wrong"""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit status."""
    given = _parser().parse_args(arguments)
    paths = [path for archive in given.archives for path in _rounds(archive)]
    out = given.out
    if len(paths) > 1 and out is not None and not out.is_dir():
        _parser().error(f"--out: expected a folder that is there, for {len(paths)} archives, got {out}")
    cache = Path(os.environ["KEVOLVE_CACHE"]) if os.environ.get("KEVOLVE_CACHE") else Path.home() / ".cache" / "kevolve"
    statuses = [_evaluated(path, _destination(path, out), cache=cache, most=given.jobs) for path in paths]
    if not paths:
        sys.stderr.write(f"kevolve evaluate: no round (*{round_file.SUFFIX}) in {', '.join(map(str, given.archives))}\n")
    return max(statuses, default=NOT_DONE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kevolve evaluate", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="a round, or a folder of rounds")
    parser.add_argument("--out", type=Path, metavar="PATH", help=f"the results' file or folder (default: beside the round, *{RESULTS})")
    parser.add_argument("--jobs", type=_count, metavar="N", help="measuring processes at the most, one a device (default: every device)")
    return parser


def _count(given: str) -> int:
    if not given.isdigit() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {given!r}")
    return int(given)


def _rounds(archive: Path) -> list[Path]:
    """A folder stands for the rounds in it; results are no rounds."""
    if archive.is_dir():
        return sorted(archive.glob(f"*{round_file.SUFFIX}"))
    return [] if archive.name.endswith(RESULTS) else [archive]


def _destination(path: Path, out: Path | None) -> Path:
    if out is None:
        return results_path(path)
    return out / results_path(path).name if out.is_dir() else out


def _evaluated(path: Path, out: Path, *, cache: Path, most: int | None) -> int:
    """One round; what is wrong with it is said and stops no other."""
    try:
        Evaluation(path, out, cache=cache, most=most, say=_say).run()
    except KeyboardInterrupt:
        sys.stderr.write("\nkevolve evaluate: interrupted; what is done is kept, run the command again\n")
        raise SystemExit(_INTERRUPTED) from None
    except (BadArchive, RecordError, SpoolError, registry.UnknownName) as error:
        sys.stderr.write(f"kevolve evaluate: {error}\n")
        return NOT_DONE
    except OSError as error:
        sys.stderr.write(f"kevolve evaluate: {error.filename or path}: {error.strerror}\n")
        return NOT_DONE
    return DONE


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class _Said:
    """A line from a measuring process, or its end (``line`` None)."""

    number: int
    line: dict[str, Any] | None


class Evaluation:
    """One round on this machine's devices."""

    def __init__(self, path: Path, out: Path, *, cache: Path, most: int | None, say: Callable[[str], None]) -> None:
        """``most``: measuring processes at a time, None: as many as devices. Raises ``BadArchive``, ``SpoolError``, ``OSError``."""
        self._path, self._out, self._cache, self._say = path, out, cache.resolve(), say
        self._asked: ReadRound = round_file.read(path)
        self._target: Target = registry.load("targets", self._asked.round.target)
        self._most = most
        self._about: dict[str, Any] | None = None
        self._journal: Journal | None = None

    def run(self) -> None:
        """Work off what is not done yet and write the results. Raises ``SpoolError`` with what is left."""
        name = words.line(self._asked.round.declared.name)
        if self._done_before():
            self._say(f"kevolve: {name}: {self._out} is there already")
            return
        if (missing := self._target.missing()) is not None:
            raise SpoolError(f"{self._path.name}: target {self._target.name}: {missing}")
        self._out.parent.mkdir(parents=True, exist_ok=True)
        device = self._target.device()["name"]
        journal_path = self._out.with_name(self._out.name.removesuffix(RESULTS) + JOURNAL)
        with Journal(journal_path, round_sha256=self._asked.sha256, device=device) as self._journal:
            done = len(self._journal.results)
            count = text.plural(len(set(self._asked.round.identities)), "job")
            self._say(f"kevolve: {name} on {self._target.name}: {device}, {count}" + (f", {done} done before" if done else ""))
            self._work_off()
            self._write()
            self._journal.remove()
        self._say(f"kevolve: wrote {self._out}")

    def _done_before(self) -> bool:
        try:
            read_results(self._out, self._asked)
        except FileNotFoundError:
            return False
        except BadArchive as error:
            raise SpoolError(f"{self._out} is there and is not this round's: {error}; move it aside, or name another with --out") from error
        return True

    def _left(self) -> list[str]:
        """The jobs that are not done, each once, in the round's order."""
        assert self._journal is not None
        return [key for key in dict.fromkeys(self._asked.round.identities) if key not in self._journal.results]

    def _work_off(self) -> None:
        left = self._left()
        selections: Sequence[Mapping[str, str]] = getattr(self._target, "selections", lambda: ({},))()
        count = max(1, min(self._most or len(selections), len(selections), len(left)))
        cores = max(1, len(os.sched_getaffinity(0)) // count)
        said: queue.Queue[_Said] = queue.Queue()
        with ExitStack() as stack:
            children = [
                stack.enter_context(
                    _Child(
                        self._path, self._asked, number, left[number::count], selections[number], cache=self._cache, cores=cores, said=said
                    )
                )
                for number in range(count)
            ]
            for _ in children:
                self._listen(said)
        if left := self._left():
            ended = ", ".join(str(child.status) for child in children)
            raise SpoolError(
                f"{self._path.name}: {len(left)} of {len(self._asked.round.jobs)} jobs are not done, a measuring process ended early "
                f"(status {ended}); what is done is kept, run the command again"
            )
        if self._about is None:
            raise SpoolError(f"{self._path.name}: the measuring process ended before it said where it is (its output stands above)")

    def _listen(self, said: queue.Queue[_Said]) -> None:
        """Keep what comes until one more process has ended."""
        while (line := said.get().line) is not None:
            if "about" in line:
                self._note(line["about"])
            else:
                self._keep(JobResult.from_json(Fields(line["result"], "result")))

    def _note(self, about: dict[str, Any]) -> None:
        """Where the results come from: one kind of device, since a round's speedups are held against each other."""
        self._about = self._about or about
        names = [one["device"]["name"] for one in (self._about, about)]
        if names[0] != names[1]:
            raise SpoolError(f"{self._path.name}: expected devices of one kind, got {names[0]} and {names[1]}; use --jobs 1")

    def _keep(self, result: JobResult) -> None:
        assert self._journal is not None
        self._journal.add(result)
        job = dict(zip(self._asked.round.identities, self._asked.round.jobs, strict=True))[result.job]
        number, of = len(self._journal.results), len(set(self._asked.round.identities))
        shown = gave(result.outcome, result.fitness) if job.kind == "quick" else _graded(result)
        self._say(f"  {number:>3}/{of}  {shown}  {job.kind} {words.line(job.language)} {job.address[:8]}  {text.duration(result.seconds)}")

    def _write(self) -> None:
        assert self._journal is not None
        assert self._about is not None
        results = Results(
            round=self._asked.sha256,
            environment=Record.from_json(self._about["record"]).environment,
            device=self._about["device"],
            facts=_facts(self._about, self._journal.results.values()),
            results=tuple(self._journal.results[key] for key in dict.fromkeys(self._asked.round.identities)),
        )
        write_atomically(self._out, results.packed())


def _graded(result: JobResult) -> str:
    """What an acceptance found, in a few words."""
    outcomes = [measured.outcome for measured in result.measured.values()]
    failed = next((outcome for outcome in (result.outcome, *outcomes) if not outcome.passed), None)
    return failed.status.value if failed is not None else "PASSED"


def _facts(about: Mapping[str, Any], results: Iterable[JobResult]) -> dict[str, Any]:
    """What a model may be told: the device, its peaks, and what was measured of each case beside candidates, the last figure of each."""
    cases: dict[str, dict[str, Any]] = {case: dict(known) for case, known in about["facts"]["cases"].items()}
    for result in results:
        for case, baseline_us in result.outcome.detail.get("baseline_us", {}).items():
            cases.setdefault(case, {})["baseline_us"] = baseline_us
        for case, measured in result.measured.items():
            if measured.floor_us is not None:
                cases.setdefault(case, {})["floor_us"] = measured.floor_us
    return {"cases": cases, "device": about["device"], "peaks": about["facts"]["peaks"]}


class _Child:
    """A measuring process with a device of its own; its lines go to ``said``. Ended on leaving."""

    def __init__(
        self,
        path: Path,
        asked: ReadRound,
        number: int,
        jobs: Sequence[str],
        selection: Mapping[str, str],
        *,
        cache: Path,
        cores: int,
        said: queue.Queue[_Said],
    ) -> None:
        self._number, self._said, self._asked = number, said, asked
        self._work = cache / "rounds" / f"{asked.sha256[:16]}-{number}"  # what a kill left of it goes now
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        named = {"round": str(path.resolve()), "sha256": asked.sha256, "jobs": list(jobs)}
        self._order = named | {"work": str(self._work), "cache": str(cache), "cores": cores}
        self._environment = os.environ | dict(selection)
        self.status: int | None = None

    def __enter__(self) -> _Child:
        round_file.unpack(self._asked.round, self._work / "modules")
        command = [sys.executable, "-P", "-m", "kevolve.commands.measuring"]
        self._process = subprocess.Popen(command, cwd=self._work, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(self._order) + "\n").encode())
        self._process.stdin.flush()
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(_Said(self._number, json.loads(line)))
        self.status = self._process.wait()
        self._said.put(_Said(self._number, None))

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._work, ignore_errors=True)
