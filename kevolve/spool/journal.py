"""What is done of a round, beside its results-to-be: a line a job, so that a measuring that was killed goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from kevolve.report.fields import Fields, RecordError
from kevolve.spool import SpoolError
from kevolve.spool.results import JobResult

SUFFIX = ".journal.jsonl"


class Journal:
    """One process writes it at a time. ``results``: what is done, by job. A context manager."""

    def __init__(self, path: Path, *, round_sha256: str, device: str) -> None:
        """Open or begin it. Raises ``SpoolError``: another process works on it, or it is of another round or device."""
        self.path = path
        self.results: dict[str, JobResult] = {}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin({"round": round_sha256, "device": device})
        except BlockingIOError:
            os.close(self._file)
            raise SpoolError(f"{path}: another process works on this round; wait for it, or end it") from None
        except SpoolError:
            os.close(self._file)
            raise

    def _begin(self, head: dict[str, str]) -> None:
        whole = os.pread(self._file, os.fstat(self._file).st_size, 0)
        lines = whole[: whole.rfind(b"\n") + 1].splitlines()  # a kill may have torn the last one
        if not lines:
            os.ftruncate(self._file, 0)
            self._append(head)
            return
        os.ftruncate(self._file, whole.rfind(b"\n") + 1)
        try:
            found, *done = (json.loads(line) for line in lines)
            if found != head:
                raise SpoolError(f"{self.path}: expected the journal of {head}, got that of {found}; move it aside to begin anew")
            self.results = {result.job: result for result in (JobResult.from_json(Fields(line, "journal")) for line in done)}
        except (ValueError, RecordError) as error:
            raise SpoolError(f"{self.path} is damaged ({error}); move it aside to begin anew") from error

    def add(self, result: JobResult) -> None:
        """Keep a result: it is on the disk when this returns."""
        self._append(result.to_json())
        self.results[result.job] = result

    def _append(self, line: dict[str, Any]) -> None:
        os.write(self._file, (json.dumps(line) + "\n").encode())
        os.fsync(self._file)

    def remove(self) -> None:
        """The results are written: it is needed no more."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
