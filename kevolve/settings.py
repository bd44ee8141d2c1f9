"""The options of one run as a value: command line over ini, read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user asked for.

    ``optimise``: ``"off"``, ``"needed"`` (kernels that fail, are slow or are missing) or ``"all"``.
    ``gate``: the revision to compare kernels with, "" for the merge base with the main branch, None for no gate; ``gate_allowance``: the
    slowdown that it lets pass, a share of the old time; ``gate_history``: patterns of records whose times are shown beside verdicts.
    ``untimed``: why this process may not time kernels (it is one of several); empty where it may.
    """

    rootdir: Path
    target: str = "cpu"
    languages: tuple[str, ...] = ()  # empty: the spec's, or the target's preference
    optimise: str = "off"
    budget: str = ""
    policy: str = "best-first"
    operators: tuple[str, ...] = ()  # without a model; empty: all that are registered
    models: tuple[str, ...] = ()  # "anthropic:NAME", "openai:NAME@URL", "command:…", each perhaps with "=WEIGHT" at its end
    knowledge: tuple[Path, ...] = ()  # folders of documents besides our own
    sandbox: str = "available"  # or "strict": no candidate runs where it cannot be confined in full
    evaluator: str = ""  # "spool:DIR": rounds are evaluated on another machine; empty: here
    seed: int | None = None
    review: bool = False
    record: Path | None = None
    reports: tuple[Path, ...] = ()  # .html, .json or .md
    summary: Path | None = None  # $GITHUB_STEP_SUMMARY: the step's summary, to be added to
    annotate: str | None = None  # where GitHub reads the log: the rootdir below the repository's root, "" where they are the same
    replay: str | None = None
    require_measured: bool = False
    gate: str | None = None
    gate_allowance: float = 0.02
    gate_history: tuple[str, ...] = ("reports/*.json",)
    untimed: str = ""
    sys_path: tuple[str, ...] = field(default=())
    cache: Path | None = None  # $KEVOLVE_CACHE: shared by checkouts; None: below `store`

    @property
    def store(self) -> Path:
        """Where caches, the graph and scratch folders live."""
        return self.rootdir / ".kevolve"

    def relative(self, path: Path) -> Path:
        """``path`` below the rootdir, where it lies there."""
        return path.relative_to(self.rootdir) if path.is_relative_to(self.rootdir) else path
