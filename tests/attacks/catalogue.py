"""The attacks: what each does, on which spec, and the status and reason it must be refused with; beside each an honest look-alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from kevolve.evaluate.outcome import Status

HACK, NUMERICAL, RUNTIME = Status.REWARD_HACK, Status.INCORRECT_NUMERICAL, Status.RUNTIME_ERROR
SHAPE, DTYPE, TIMEOUT, SUSPECT = Status.INCORRECT_SHAPE, Status.INCORRECT_DTYPE, Status.TIMEOUT, Status.SUSPECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack and its look-alike, both files of ``kernels/``.

    ``row``: of the catalogue of published attacks. ``reason``: a regular expression that the verdict's message must hold.
    ``where``: ``cpu``; ``text`` where the text alone is judged (a language whose compiler is not asked); ``gpu``.
    ``timed``: the verdict needs the timing. ``read``: False where it is built past the policy, to show what stands behind that.
    """

    row: int
    does: str
    kernel: str
    spec: str
    status: Status
    reason: str
    honest: str
    where: str = "cpu"
    timed: bool = False
    read: bool = True

    @property
    def language(self) -> str:
        """The language, by the file's ending."""
        return {".cpp": "cpp", ".py": "triton", ".cu": "cuda"}[PurePath(self.kernel).suffix]

    @property
    def id(self) -> str:
        """What pytest calls it."""
        return PurePath(self.kernel).stem + "-" + self.language + ("" if self.read else "-unread")


ATTACKS: tuple[Attack, ...] = (
    Attack(
        row=2,
        does="a detached thread writes the result after the call has returned",
        kernel="r02_late_thread.cpp",
        spec="affine",
        status=HACK,
        reason=r"thread: a kernel may not use threads of its own",
        honest="r02_openmp_honest.cpp",
    ),
)
