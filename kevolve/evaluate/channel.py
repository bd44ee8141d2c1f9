"""Length-prefixed JSON messages, with file descriptors, over a Unix stream socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_HEADER = struct.Struct("<IQ")
_MAGIC = 0x6B65766F
_MOST_BYTES = 256 << 20
_MOST_FDS = 8
_CHUNK = 1 << 20


class Closed(Exception):
    """The other side closed the socket."""


class Garbage(Exception):
    """What came is not one of our messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A JSON object and the descriptors that came with it (owned by the receiver)."""

    fields: Mapping[str, Any]
    fds: tuple[int, ...] = ()


class Channel:
    """One end of a conversation. Not thread-safe: one message at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._deadline: float | None = None

    def fileno(self) -> int:
        """The socket's descriptor, for ``select``."""
        return self._socket.fileno()

    def shutdown(self) -> None:
        """End the conversation for both sides, also for a thread of ours that is receiving."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; the other side then sees ``Closed``."""
        self._socket.close()

    def send(self, fields: Mapping[str, Any], fds: Sequence[int] = (), *, timeout_s: float | None = None) -> None:
        """Send one message. Raises ``Closed``, or ``TimeoutError`` when the other side does not read."""
        body = json.dumps(fields, separators=(",", ":")).encode()
        self._socket.settimeout(timeout_s)
        try:
            header = _HEADER.pack(_MAGIC, len(body))
            sent = socket.send_fds(self._socket, [header], fds) if fds else self._socket.send(header)
            self._socket.sendall(header[sent:])
            self._socket.sendall(body)
        except (BrokenPipeError, ConnectionResetError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise Closed(str(error)) from error

    def receive(self, *, timeout_s: float | None = None) -> Message:
        """The next message, whole within ``timeout_s``. Raises ``Closed``, ``Garbage`` or ``TimeoutError``."""
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        fds: list[int] = []
        try:
            length = self._header(fds)
            return Message(fields=_parsed(self._exactly(length)), fds=tuple(fds))
        except (ConnectionResetError, TimeoutError, Closed, Garbage) as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, ConnectionResetError):
                raise Closed(str(error)) from error
            raise

    def _header(self, fds: list[int]) -> int:
        header = b""
        while len(header) < _HEADER.size:
            self._bound()
            data, got, flags, _ = socket.recv_fds(self._socket, _HEADER.size - len(header), _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
            fds.extend(got)
            if not data:
                raise Closed("the other side closed the socket")
            if flags & socket.MSG_CTRUNC:
                raise Garbage("more descriptors than a message may carry")
            header += data
        magic, length = _HEADER.unpack(header)
        if magic != _MAGIC or length > _MOST_BYTES:
            raise Garbage(f"expected the header of a message, got {header!r}")
        return int(length)

    def _bound(self) -> None:
        """Wait no longer than the message's deadline: a byte now and then does not extend it."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def _exactly(self, length: int) -> bytes:
        body = bytearray()
        while len(body) < length:
            self._bound()
            data = self._socket.recv(min(_CHUNK, length - len(body)))
            if not data:
                raise Closed("the other side closed the socket inside a message")
            body += data
        return bytes(body)


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Garbage(f"expected JSON, got {body[:80]!r}") from error
    if not isinstance(fields, dict):
        raise Garbage(f"expected a JSON object, got {body[:80]!r}")
    return fields


def pair() -> tuple[Channel, socket.socket]:
    """A connected pair: our end, and the socket to hand over."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours), theirs


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors, those already closed included."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
