"""What languages compiled to a shared library have in common: running a compiler, apache-tvm-ffi's interface, loading the result."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kevolve.languages import BuildError, Loaded
from kevolve.languages.diagnostics import diagnostics

COMPILER_MEMORY_BYTES = 8 << 30
_DIAGNOSTIC_LINES, _DIAGNOSTIC_CHARS = 40, 4000
MISSING_FFI = "apache-tvm-ffi is not installed: pip install apache-tvm-ffi"


def load(artifact: Path, entry: str) -> Loaded:
    """The functions of a library; tuples for returned arrays. In the worker only. Raises ``AttributeError`` without the entry."""
    import tvm_ffi

    module = tvm_ffi.load_module(str(artifact))
    functions = {name: _function(module, name, tvm_ffi) for name in (entry, f"{entry}_backward", f"{entry}_prepare")}
    call = functions[entry]
    if call is None:
        raise AttributeError(f"{artifact.name} exports no function {entry!r}")
    return Loaded(call=call, backward=functions[f"{entry}_backward"], prepare=functions[f"{entry}_prepare"])


def _function(module: Any, name: str, tvm_ffi: Any) -> Any:
    if not module.implements_function(name):
        return None
    function = module[name]

    def call(*inputs: Any) -> Any:
        outputs = function(*inputs)
        return tuple(outputs) if isinstance(outputs, tvm_ffi.Array) else outputs

    return call


@functools.cache
def package() -> Path:
    """The folder of apache-tvm-ffi, found without importing it (that would import torch)."""
    found = importlib.util.find_spec("tvm_ffi")
    if found is None or found.origin is None:
        raise BuildError(MISSING_FFI)
    return Path(found.origin).parent


def includes() -> list[str]:
    """The compiler's options for apache-tvm-ffi's headers."""
    return ["-isystem", str(package() / "include")]


def link() -> list[str]:
    """The linker's options for apache-tvm-ffi, which is found by its name: the worker has it loaded."""
    return [f"-L{package() / 'lib'}", "-ltvm_ffi"]


def digest(*parts: str) -> str:
    """Of texts, as hexadecimal digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The only process at work in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def said(path: str, *options: str) -> str:
    """What a program prints."""
    return subprocess.run([path, *options], capture_output=True, text=True, timeout=30, check=False).stdout


def first_line(path: str, *options: str) -> str:
    """The first line that a program says of itself, else its path."""
    text = said(path, *options)
    return text.splitlines()[0] if text else path


def run(command: Sequence[str], *, timeout_s: float, folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """The compiler's diagnostics, whole. Raises ``BuildError`` on an error or after ``timeout_s``; its process group is killed."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'ulimit -c 0; ulimit -v {COMPILER_MEMORY_BYTES >> 10}; exec "$@"', "sh", *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, text = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise BuildError(f"the compiler did not end within {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != 0:
        raise BuildError(diagnostics(text) or f"the compiler ended with code {process.returncode}")
    return text


_INSTANTIATION = re.compile(r"^.*(required from|In instantiation of|In file included from|^\s+from ).*$")


def shortened(text: str) -> str:
    """The first errors with their source lines: no notes from headers, no template stacks, no paths of this machine."""
    lines = [_relative(line) for line in text.splitlines() if not _INSTANTIATION.match(line)]
    kept = "\n".join(lines[:_DIAGNOSTIC_LINES])
    return kept if len(kept) <= _DIAGNOSTIC_CHARS else kept[:_DIAGNOSTIC_CHARS] + " …"


def _relative(line: str) -> str:
    return line.replace(str(package().parent) + "/", "")
