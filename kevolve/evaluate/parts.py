"""What the judge and one of its children share."""

from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path

from kevolve.evaluate.channel import close_all, pair
from kevolve.evaluate.fork_server import tail

_LOG_TAIL_BYTES = 4000


class Parts:
    """What judge and child share: a socket, a page for progress, a log, a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.channel, self._socket = pair()
        self.progress_fd = os.memfd_create("kevolve-progress", os.MFD_CLOEXEC)
        os.ftruncate(self.progress_fd, mmap.PAGESIZE)
        self.progress = mmap.mmap(self.progress_fd, mmap.PAGESIZE)
        self.log_fd = os.memfd_create("kevolve-log", os.MFD_CLOEXEC)

    @property
    def theirs(self) -> tuple[int, int, int]:
        """Descriptors for the child, in the order that it takes them."""
        return (self._socket.fileno(), self.progress_fd, self.log_fd)

    def handed_over(self) -> None:
        """The child has its end: close ours, so that its death closes the socket."""
        self._socket.close()

    def log(self) -> str:
        """The end of what the child printed."""
        size = os.fstat(self.log_fd).st_size
        return tail(os.pread(self.log_fd, _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES)))

    def drop(self) -> None:
        """Close it all, and remove the folder."""
        self._socket.close()
        self.channel.close()
        self.progress.close()
        close_all((self.progress_fd, self.log_fd))
        shutil.rmtree(self.folder, ignore_errors=True)
