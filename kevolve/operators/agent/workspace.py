"""A folder for a coding agent's command: the files it works on, and a small protocol of files by which it has the kernel evaluated.

``./evaluate KIND`` leaves a copy of the kernel and a request; a thread of ours answers it through the bench, within the same limits. What
lies in the folder is the command's: files are read with bounds and never through links, and nothing in it is run.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kevolve.models import ToolCall, Work
from kevolve.operators.agent.bench import Answered, Bench, Refused
from kevolve.operators.agent.edits import MOST_CHARACTERS
from kevolve.operators.agent.limits import Meter
from kevolve.operators.agent.prompt import Excerpt, Prompt, render
from kevolve.operators.agent.transcript import Transcript

KINDS = {"compile": "compile", "check": "run_development_plan", "time": "time", "profile": "profile"}
REQUESTS, OVER, NOTES = ".evaluate", "over", "NOTES.md"
_MOST_BYTES = 4 * MOST_CHARACTERS
_NAME = re.compile(r"[0-9-]{1,40}")
_POLL_S = 0.05


class Workspace:
    """One folder. ``suffix``: of the language's files."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix
        self.kernel = folder / f"kernel{suffix}"
        self._evaluations: list[tuple[str, str]] = []  # that were answered
        self._answer: Callable[[str, str | None], Answered] = _unanswered
        self._answering = threading.Lock()

    def fill(self, *, prompt: Prompt, spec: str, parent: str, knowledge: Sequence[Excerpt]) -> None:
        """Write everything that the command may read."""
        (self.folder / REQUESTS).mkdir(parents=True)
        self._write("PROMPT.md", f"{prompt.system}\n{prompt.text}")
        self._write("SPEC.md", spec)
        self._write(self.kernel.name, parent)
        if parent:
            self._write(f"parent{self.suffix}", parent)
        for document in knowledge:
            self._write(f"knowledge/{_file_of(document)}", f"# {document.title}\n\n{document.text}")
        if knowledge:
            listed = [f"- {document.title}: `{_file_of(document)}`" for document in knowledge]
            self._write("knowledge/INDEX.md", "\n".join(["Documents, the most fitting first:", "", *listed, ""]))
        self._write("evaluate", render("evaluate.sh.jinja", suffix=self.suffix) + "\n")
        (self.folder / "evaluate").chmod(0o755)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def read(self, name: str) -> str | None:
        """A regular file's text, or None where it is none or too large."""
        return _read(self.folder / name)

    @contextmanager
    def answering(self, bench: Bench, meter: Meter, transcript: Transcript) -> Iterator[None]:
        """Requests are answered inside of it, one after the other, by a thread that ends with it."""
        over = threading.Event()
        self._answer = partial(self._answered, bench, meter, transcript)
        thread = threading.Thread(target=self._serve, args=(over,), name="kevolve-workspace", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._answer = _unanswered
            if (self.folder / REQUESTS).is_dir():
                (self.folder / REQUESTS / OVER).touch()

    def done(self) -> Work:
        """See ``kevolve.models.Desk``."""
        with self._answering:
            self._answer = _unanswered
            texts = {name: self.read(name) for name in (self.kernel.name, NOTES)}
            return Work(evaluations=tuple(self._evaluations), files={name: text for name, text in texts.items() if text is not None})

    def redo(self, work: Work) -> None:
        """See ``kevolve.models.Desk``."""
        for kind, source in work.evaluations:
            with self._answering:
                self._answer(kind, source)
        for name, text in work.files.items():
            if name in (self.kernel.name, NOTES):
                self._write(name, text)

    def _serve(self, over: threading.Event) -> None:
        while not over.wait(_POLL_S):
            for request in sorted((self.folder / REQUESTS).glob("*.request")):
                if over.is_set() or not _NAME.fullmatch(request.stem):
                    break
                kind, source = (_read(request) or "").strip(), _read(request.with_suffix(".source"))
                with self._answering:
                    self._reply(request, self._answer(kind, source))

    def _answered(self, bench: Bench, meter: Meter, transcript: Transcript, kind: str, source: str | None) -> Answered:
        """One evaluation, noted for the step's transcript and for a replay."""
        answered = _answer(bench, meter, kind, source)
        self._evaluations.append((kind, source or ""))
        transcript.note(evaluate=kind[:40], answer=answered.text, failed=answered.failed)
        return answered

    def _reply(self, request: Path, answered: Answered) -> None:
        if not answered.failed:
            request.with_suffix(".passed").touch()
        part = request.with_suffix(".answer")
        part.write_text(answered.text + "\n", encoding="utf-8")
        part.replace(request.with_suffix(".result"))
        request.unlink(missing_ok=True)


def _file_of(document: Excerpt) -> str:
    """A document's name in the folder."""
    return f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', document.id)}.md"


def _unanswered(kind: str, source: str | None) -> Answered:
    return Answered(text="nobody evaluates any more", failed=True)


def _answer(bench: Bench, meter: Meter, kind: str, source: str | None) -> Answered:
    if kind not in KINDS:
        return Answered(text=f"expected one of {', '.join(KINDS)}, got {kind[:40]!r}", failed=True)
    if KINDS[kind] not in {tool.name for tool in bench.offered()}:
        return Answered(text=f"{kind}: not here: that waits for the device, which is on another machine", failed=True)
    if meter.calls >= meter.limits.calls or meter.seconds_left <= 0:
        return Answered(text="no evaluation is left: end with the kernel as it should be handed in", failed=True)
    meter.calls += 1
    try:
        bench.write(source or "")
    except Refused as problem:
        return Answered(text=str(problem), failed=True)
    answered = bench.answer(ToolCall(id=str(meter.calls), name=KINDS[kind]))
    left = meter.limits.calls - meter.calls
    return Answered(text=f"{answered.text}\n[left: {left} evaluations]", failed=answered.failed or not bench.passed)


def _read(path: Path) -> str | None:
    """The text of a regular file of at most ``_MOST_BYTES``, not through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(_MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    return None if len(data) > _MOST_BYTES else data.decode("utf-8", "replace")


@contextmanager
def temporary(suffix: str, below: Path | None = None) -> Iterator[Workspace]:
    """A workspace that is removed afterwards. ``below``: where it is made; None: the system's folder for such."""
    if below is not None:
        below.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="kevolve-agent-", dir=below))
    try:
        yield Workspace(folder, suffix)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
