"""Ask a target's profilers about a candidate: in a confined process of its own, with a deadline, never while anything is timed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kevolve.evaluate.baselines import gradients, positions
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Workers
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.profiled import BOOT, CALLS, JOB, LOG, POOL, SCRATCH
from kevolve.spec.spec import Spec
from kevolve.targets.profile import Profile, Profiler, Unprofiled

if TYPE_CHECKING:
    from kevolve.targets import Target

_MOST_POOL_BYTES = 4 << 30
_MOST_ANSWER_BYTES = 10_000
_GRACE_S = 10.0  # beyond the deadline, for the supervisor to end what it started


def profile(
    workers: Workers, spec: Spec, candidate: Candidate, pool: Pool, *, target: Target, deadline_s: float, seed: int
) -> tuple[Profile | None, tuple[str, ...]]:
    """The first profiler's figures that can be had on ``pool``'s contents, and why others gave none. Holds the device alone."""
    reasons = []
    profilers: tuple[Profiler, ...] = getattr(target, "profilers", ())
    for profiler in profilers:
        missing = profiler.missing()
        if missing is not None:
            reasons.append(f"{profiler.name}: {missing}")
            continue
        try:
            with workers.holds.alone(target):
                return _profiled(profiler, workers, spec, candidate, pool, target, deadline_s, seed), tuple(reasons)
        except Unprofiled as error:
            reasons.append(f"{profiler.name}: {error}")
    return None, tuple(reasons)


def profile_text(found: Profile | None, reasons: Sequence[str], case: str) -> str:
    """For the kernel's author; nothing where there is no profiler to speak of."""
    lines = [f"On case `{case}`: {found.text}"] if found is not None else []
    lines += [f"No figures from {reason}." for reason in reasons]
    return "\n".join(lines)


def _profiled(
    profiler: Profiler, workers: Workers, spec: Spec, candidate: Candidate, pool: Pool, target: Target, deadline_s: float, seed: int
) -> Profile:
    """One tool's figures. Raises ``Unprofiled``."""
    folder = workers.folder()
    try:
        (folder / SCRATCH).mkdir()
        _copy(pool, folder / POOL)
        job = _job(workers, spec, candidate, pool, target, seed) | {"profiler": profiler.name, "command": list(profiler.command(folder))}
        job |= {"needs_network": profiler.needs_network, "deadline_s": deadline_s, "cpu_s": int(deadline_s * (os.cpu_count() or 1)) + 1}
        (folder / JOB).write_text(json.dumps(job))
        _supervised(folder, job, workers.environment(target, candidate.language))
        return profiler.read(folder, calls=_calls(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(pool: Pool, path: Path) -> None:
    """The contents as a file: a profiler's own programs hand no descriptors on."""
    size = os.fstat(pool.fd).st_size
    if size > _MOST_POOL_BYTES:
        raise Unprofiled(f"the case's contents are {size / 2**30:.1f} GiB, at most {_MOST_POOL_BYTES >> 30} GiB are profiled")
    with path.open("wb") as file:
        done = 0
        while done < size:
            done += os.sendfile(file.fileno(), pool.fd, done, size - done)


def _job(workers: Workers, spec: Spec, candidate: Candidate, pool: Pool, target: Target, seed: int) -> dict[str, Any]:
    import kevolve

    return {
        "root": str(Path(kevolve.__file__).parents[1]),
        "judge": os.getpid(),
        "target": target.name,
        "language": candidate.language,
        "sys_path": workers.sys_path,
        "fields": workers.confinement(target),
        "candidate": {"language": candidate.language, "artifact": str(candidate.artifact), "entry": candidate.entry},
        "constant": positions(spec, spec.constant),
        "mutates": positions(spec, spec.mutates),
        "layout": pool.layout,
        "seed": seed,
        **gradients(spec, pool),
    }


def _supervised(folder: Path, job: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Run it and wait. Raises ``Unprofiled`` at the deadline."""
    code = BOOT.format(root=job["root"], folder=str(folder), supervised=False)
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            status = process.wait(job["deadline_s"] + _GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = 124
    if status == 124:
        raise Unprofiled(f"not done within {job['deadline_s']:g} s")


def _calls(folder: Path) -> int:
    """How many calls were watched. Raises ``Unprofiled`` with what the candidate raised, or the end of the log."""
    path = folder / SCRATCH / CALLS
    try:
        answer = json.loads(path.read_bytes()[:_MOST_ANSWER_BYTES]) if not path.is_symlink() else {}
    except (OSError, ValueError):
        log = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
        raise Unprofiled(f"the process ended early: {log[-400:] or 'without a word'}") from None
    calls = answer.get("calls") if isinstance(answer, dict) else None
    if not isinstance(calls, int) or not 0 < calls <= 10_000:
        raise Unprofiled(f"the kernel failed under it: {str(answer)[:400]}")
    return calls
