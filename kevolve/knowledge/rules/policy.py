"""Refused for what it is, not for what it computes."""

from __future__ import annotations

from kevolve.evaluate.outcome import Stage, Status
from kevolve.knowledge.evidence import Evidence, Finding


def cheats(evidence: Evidence) -> Finding | None:
    """A library call, a forbidden import or name, work left out of the clock's sight."""
    if evidence.status is not Status.REWARD_HACK:
        return None
    timed = evidence.stage in (Stage.QUICK, Stage.PAIRED)
    return Finding(
        bottleneck="policy",
        says="It was refused: " + _first(evidence.message),
        words="policy refused reward hack cheating library wrapper torch operator call forbidden import allowed "
        + ("timing clock cached outputs stream" if timed else "write the computation yourself"),
        directions=(
            "Write the refused part in the kernel itself; the wrapper may only allocate, view and launch.",
            "Compute everything anew in every call: nothing kept between calls, no result guessed from the inputs' identity.",
        ),
    )


def suspect(evidence: Evidence) -> Finding | None:
    """Faster than the speed of light."""
    if evidence.status is not Status.SUSPECT:
        return None
    return Finding(
        bottleneck="policy",
        says="It is faster than the device can be: work is left out, or left running. " + _first(evidence.message),
        words="policy reward hack speed of light suspect roofline floor work skipped cached",
        directions=("Make sure that every byte is read and written in every call, on the stream that the caller waits for.",),
    )


def no_candidate(evidence: Evidence) -> Finding | None:
    """A step that led to no source."""
    if evidence.status is not Status.NO_CANDIDATE:
        return None
    return Finding(
        bottleneck="compile",
        says="The last step gave no kernel: " + _first(evidence.message),
        words="edit does not apply whole file fenced block entry function",
        directions=("Send the whole file anew instead of an edit.",),
    )


def _first(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "no reason was kept")[:300]


RULES = (cheats, suspect, no_candidate)
