"""The ``kevolve`` command: a table of commands, each loaded when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

READY, NOT_READY = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: a line for people, and ``module:function`` that takes the rest of the command line and returns the exit status."""

    help: str
    entry: str

    def load(self) -> Callable[[Sequence[str]], int]:
        """The function."""
        module, _, name = self.entry.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


COMMANDS = {
    "doctor": Command(help="say what this machine can do", entry="kevolve.commands.doctor:main"),
    "evaluate": Command(help="work off candidates that a search elsewhere left as archives", entry="kevolve.commands.evaluate:main"),
    "prompt": Command(help="print what a model would be sent for the next step of a spec's search", entry="kevolve.prompting:main"),
    "report": Command(help="merge run records and write them as HTML, JSON, Markdown or traces", entry="kevolve.commands.report:main"),
    "search": Command(help="read what searches have found: the tree, a node, a difference, JSONL", entry="kevolve.commands.search:main"),
}


def parser() -> argparse.ArgumentParser:
    """The command line up to the command; what follows it is the command's own."""
    width = max(map(len, COMMANDS))
    top = argparse.ArgumentParser(
        prog="kevolve",
        usage="kevolve [-h] [--version] COMMAND …",
        description="A kernel spec is a pytest test; `pytest --kevolve-optimize` writes the kernel that passes it.",
        epilog="\n".join(["commands:", *(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())])
        + "\n\n`kevolve COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"kevolve {version('kevolve')}")
    top.add_argument("command", choices=tuple(COMMANDS), metavar="COMMAND", help="one of those below")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser().parse_args(given[:1]).command
    if sys.platform != "linux":
        sys.stderr.write(f"kevolve: expected Linux, got {sys.platform}: use a Linux machine, a container or WSL\n")
        return NOT_READY
    try:
        return COMMANDS[chosen].load()(given[1:])
    except BrokenPipeError:  # `kevolve search tree | head`
        sys.stderr.close()
        return READY
