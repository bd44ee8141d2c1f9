"""Measure whole tuning landscapes on a GPU: every setting compiled on the host's cores, then timed one after another.

``python -m benchmarks.search.measure --out landscapes.jsonl --seconds 540 --workers 14`` on an otherwise idle machine, and
``python -m benchmarks.search.measure --pack landscapes.jsonl`` to store what was found under ``benchmarks/search/landscapes``.
A line of JSON is written for every setting as soon as it is known; a setting that crashes or hangs costs one process, never the rest.
``--dry`` needs no GPU: it compiles some settings for sm_90 and runs small inputs in Triton's interpreter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TextIO

from benchmarks.search import timed
from benchmarks.search.landscape import FOLDER, pack
from benchmarks.search.spaces import SPACES, Space, named

ROOT = Path(__file__).resolve().parents[2]
COMPILE_S = 90.0  # a setting's compilation may take
ANSWER_S = 20.0  # a setting's timing may take
START_S = 120.0  # a timing process may take to begin: torch, the device, the reference
AGAIN = 30  # of the best, timed anew
DRY = 5  # settings of a dry run


def main() -> None:
    """Measure, store or try out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("landscapes.jsonl"), help="one line of JSON a setting")
    parser.add_argument("--seconds", type=float, default=540.0, help="stop timing after so long")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="compilations at a time")
    parser.add_argument("--spaces", nargs="+", default=[space.name for space in SPACES])
    parser.add_argument("--arch", default="sm90")
    parser.add_argument("--dry", action="store_true", help="compile a few settings and interpret two; needs no GPU")
    parser.add_argument("--pack", type=Path, help="store these lines as landscapes")
    arguments = parser.parse_args()
    if arguments.pack is not None:
        return pack(arguments.pack, FOLDER)
    spaces = [named(name) for name in arguments.spaces]
    with tempfile.TemporaryDirectory() as scratch, arguments.out.open("w") as out:
        run = dry if arguments.dry else measure
        run(spaces, Path(scratch), out, arguments)
    return None


def measure(spaces: Sequence[Space], scratch: Path, out: TextIO, arguments: argparse.Namespace) -> None:
    """Everything: compile all spaces, then time them."""
    started = time.monotonic()
    end = started + arguments.seconds
    works = [(space, number) for space in spaces for number in range(len(space.settings()))]
    write_sources(works, scratch)
    fine: dict[str, list[int]] = {space.name: [] for space in spaces}
    for result in compiled(works, scratch, arguments.arch, arguments.workers):
        tell(out, result)
        if not result["problem"]:
            fine[result["space"]].append(result["index"])
    print(f"compiled after {time.monotonic() - started:.0f} s", flush=True)
    for position, space in enumerate(spaces):
        left = end - time.monotonic()
        tell(out, {"space": space.name, "began_s": round(time.monotonic() - started, 1)})
        try:
            time_space(space, sorted(fine[space.name]), scratch, out, time.monotonic() + left / (len(spaces) - position))
        except NoTimer as error:
            print(error, flush=True)
    tell(out, {"finished_s": round(time.monotonic() - started, 1)})


def tell(out: TextIO, line: Mapping[str, Any]) -> None:
    """Write a line at once."""
    out.write(json.dumps(line) + "\n")
    out.flush()


def write_sources(works: Sequence[tuple[Space, int]], scratch: Path) -> None:
    """Every setting's kernel as a file."""
    settings = {space.name: space.settings() for space, _ in works}
    for space, number in works:
        source_path(scratch, space, number).parent.mkdir(exist_ok=True)
        source_path(scratch, space, number).write_text(space.source(settings[space.name][number]))


def source_path(scratch: Path, space: Space, number: int) -> Path:
    """Where a setting's kernel is."""
    return scratch / space.name / f"{number:04d}.py"


# Compiling: a process forked from this one for each setting


def compiled(works: Sequence[tuple[Space, int]], scratch: Path, arch: str, workers: int) -> Iterator[dict[str, Any]]:
    """What came of each compilation, as they end; binaries lie in Triton's cache below ``scratch``."""
    import torch  # before the fork  # noqa: F401

    import kevolve.languages.triton_ahead  # noqa: F401

    forks = multiprocessing.get_context("fork")
    waiting, running = list(reversed(works)), {}
    settings = {space.name: space.settings() for space, _ in works}
    done, begun = 0, time.monotonic()
    while waiting or running:
        while waiting and len(running) < workers:
            space, number = waiting.pop()
            reader, writer = forks.Pipe(duplex=False)
            process = forks.Process(target=compile_one, args=(space, source_path(scratch, space, number), scratch, arch, writer))
            process.start()
            writer.close()
            running[reader] = (process, space, number, time.monotonic())
        ready = set(wait(list(running), timeout=1.0))
        for reader in list(running):
            process, space, number, since = running[reader]
            seconds = time.monotonic() - since
            if reader not in ready and seconds < COMPILE_S:
                continue
            problem = received(reader) if reader in ready else f"CompilerHung: not done after {COMPILE_S:.0f} s"
            if reader not in ready:
                process.kill()
            process.join()
            del running[reader]
            done += 1
            knobs = settings[space.name][number]
            yield dict(space=space.name, index=number, knobs=knobs, compile_s=round(seconds, 3), problem=problem)
            if done % 50 == 0 or not (waiting or running):
                print(f"{done} of {len(works)} compiled, {time.monotonic() - begun:.0f} s", flush=True)


def received(reader: Connection) -> str:
    """What a compiling process said: nothing, or why its setting fails."""
    try:
        return str(reader.recv())
    except EOFError:
        return "CompilerCrashed: the process ended without a word"
    finally:
        reader.close()


def compile_one(space: Space, source: Path, scratch: Path, arch: str, writer: Connection) -> None:
    """In a process of its own: the entry called on tensors without contents."""
    import torch

    from kevolve.languages.triton_ahead import Compiler

    try:
        with Compiler(arch, jobs=1, folder=scratch / "triton") as ahead:
            entry = timed.loaded(source, space.name)
            strides = [tuple(torch.empty(shape, device="meta").stride()) for shape in space.shapes]
            inputs = [
                ahead.fake(getattr(torch, space.dtype), shape, stride, 0) for shape, stride in zip(space.shapes, strides, strict=True)
            ]
            entry(*inputs)
            ahead.finish(COMPILE_S)
        found = ahead.problems() + ahead.disturbances()
        writer.send(timed.cut(found[0]) if found else "")
    except Exception as error:  # noqa: BLE001  whatever a kernel's file raises is its result
        writer.send(timed.cut(f"{type(error).__name__}: {error}"))


# Timing: in a process that is replaced when it crashes or hangs


class NoTimer(RuntimeError):
    """A timing process that does not begin."""


class Timer:
    """The present timing process of a space. A dead or silent one is replaced at the next question."""

    def __init__(self, command: Sequence[str], cache: Path, *, answer_s: float = ANSWER_S, start_s: float = START_S) -> None:
        """``cache``: Triton's, with what was compiled."""
        self._command, self._cache, self._answer_s, self._start_s = command, cache, answer_s, start_s
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer, or what is wrong with the setting that crashed or hung. Raises ``NoTimer``."""
        if self._process is None:
            self._start()
        problem = self._send(json.dumps(question))
        if problem is None:
            line = self._answer(self._answer_s)
            if line is not None:
                return dict(json.loads(line))
            problem = self._stop()
        return {"problem": problem}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._stop()

    def _start(self) -> None:
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=os.environ | {"TRITON_CACHE_DIR": str(self._cache)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        ready = self._answer(self._start_s)
        if ready is None:
            raise NoTimer(f"{' '.join(self._command)}: {self._stop()}; what it printed stands above")
        print(ready.strip(), flush=True)

    def _send(self, line: str) -> str | None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._stop()
        return None

    def _answer(self, seconds: float) -> str | None:
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def _stop(self) -> str:
        assert self._process is not None
        time.sleep(0.2)  # a process that is just ending has a code of its own
        code = self._process.poll()
        self._process.kill()
        self._process.wait()
        self._process = None
        return "Hung: no answer" if code is None else f"Crashed: the process ended with {code}"


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):  # torch and Triton may print too
            lines.put(line)
    lines.put(None)


def time_space(space: Space, numbers: Sequence[int], scratch: Path, out: TextIO, end: float) -> None:
    """Time the settings ``numbers`` until ``end``, then the best once more, twice."""
    command = [sys.executable, "-m", "benchmarks.search.timed", space.name]
    timer, settings, found = Timer(command, scratch / "triton"), space.settings(), dict[int, float]()
    tell(out, {"space": space.name, **timer.ask({"about": True})})
    begun = time.monotonic()
    for count, number in enumerate(numbers, 1):
        if time.monotonic() > end - 5:
            print(f"{space.name}: out of time after {count - 1} of {len(numbers)}", flush=True)
            break
        result = timer.ask({"path": str(source_path(scratch, space, number)), "samples": 25})
        tell(out, {"space": space.name, "index": number, "knobs": settings[number], **result})
        if not result["problem"]:
            found[number] = result["us"]
        if count % 50 == 0 or count == len(numbers):
            best = f"{min(found.values()):.2f} us" if found else "none works"
            print(f"{space.name}: {count} of {len(numbers)} in {time.monotonic() - begun:.0f} s, best {best}", flush=True)
    for turn in (1, 2):
        for number in sorted(found, key=found.__getitem__)[:AGAIN]:
            if time.monotonic() < end:
                result = timer.ask({"path": str(source_path(scratch, space, number)), "samples": 100})
                tell(out, {"space": space.name, "index": number, "again": turn, **result})
    timer.close()


# Without a GPU


def dry(spaces: Sequence[Space], scratch: Path, out: TextIO, arguments: argparse.Namespace) -> None:
    """Compile a few settings of each space, far from one another, and interpret two of them on small inputs."""
    works = [(space, number) for space in spaces for number in spread(len(space.settings()), DRY)]
    write_sources(works, scratch)
    for result in compiled(works, scratch, arguments.arch, arguments.workers):
        tell(out, result)
        print(result, flush=True)
    for space in spaces:
        paths = [str(source_path(scratch, space, number)) for number in spread(len(space.settings()), DRY)[1:3]]
        command = [sys.executable, "-m", "benchmarks.search.timed", space.name, "--interpret", *paths]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "1"}, check=True)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` numbers below ``count``, far from one another; no two of them differ by the same step of any knob."""
    return sorted({number * (count - 1) // (most - 1) for number in range(most)})


if __name__ == "__main__":
    main()
