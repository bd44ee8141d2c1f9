"""``kevolve search``: read what searches have found. The store is only read."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kevolve.commands import node_text, tree
from kevolve.files import write_atomically
from kevolve.report import text, words
from kevolve.search.node import Graph
from kevolve.store import export
from kevolve.store.graph_store import StoreError
from kevolve.store.listing import Listing, Shelf

FOUND, NOT_FOUND = 0, 1
_PIPED_WIDTH = 250  # characters: what is piped on is cut nowhere
_EPILOG = """SPEC is a part of a spec's node id (`rms_norm`), NODE a number with or without #.

exit status:
  0  shown
  1  there is no such store, spec or node, or it cannot be read: the text says why
  2  the command line was wrong"""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit status."""
    given = _parser().parse_args(arguments)
    terminal = Console(highlight=False, markup=False, emoji=False)
    if not terminal.is_terminal:
        terminal.width = _PIPED_WIDTH
    try:
        with Listing(given.store) as listing:
            chosen: Callable[[Listing, Console, argparse.Namespace], None] = given.run
            chosen(listing, terminal, given)
    except StoreError as error:
        sys.stderr.write(f"kevolve search: {error}\n")
        return NOT_FOUND
    return FOUND


def _parser() -> argparse.ArgumentParser:
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument("--store", type=Path, default=argparse.SUPPRESS, metavar="DIR", help="the graph's folder (default: .kevolve)")
    top = argparse.ArgumentParser(
        prog="kevolve search",
        parents=[store],
        description="Read what searches have found; alone it lists the specs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.set_defaults(run=_list, store=_default_store())
    commands = top.add_subparsers(metavar="COMMAND")
    shown = commands.add_parser("tree", parents=[store], help="the nodes as a tree")
    _add_spec(shown)
    shown.add_argument("--all", action="store_true", help=f"every node, also where there are more than {tree.FOLDED_FROM}")
    shown.set_defaults(run=_tree)
    one = commands.add_parser("show", parents=[store], help="one node: prompt, source, outcome, cost, hypothesis, decision")
    one.add_argument("node", type=_number, metavar="NODE")
    one.add_argument("--full", action="store_true", help="transcripts whole")
    one.set_defaults(run=_show)
    two = commands.add_parser("diff", parents=[store], help="the difference of a node's text from its parent's, or from another's")
    two.add_argument("node", type=_number, metavar="NODE")
    two.add_argument("other", type=_number, metavar="OTHER", nargs="?")
    two.set_defaults(run=_diff)
    lines = commands.add_parser("export", parents=[store], help="JSONL: a node a line, texts inlined")
    _add_spec(lines)
    lines.add_argument("--out", type=Path, metavar="FILE", help="write there (default: standard output)")
    lines.set_defaults(run=_export)
    return top


def _default_store() -> Path:
    """The nearest ``.kevolve`` at or above the working directory: a rootdir's."""
    here = Path.cwd()
    return next((folder / ".kevolve" for folder in (here, *here.parents) if (folder / ".kevolve").is_dir()), Path(".kevolve"))


def _add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", nargs="?", default="", help="a part of the node id (default: every spec)")
    parser.add_argument("--target", metavar="T", default="", help="a part of the target, such as cpu (default: every target)")


def _number(given: str) -> int:
    digits = given.removeprefix("#")
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a node's number, got {given!r}")
    return int(digits)


def _chosen(listing: Listing, given: argparse.Namespace) -> list[Shelf]:
    """The shelves that were asked for: a spec's own name comes before names that only contain it."""
    shelves = listing.shelves()
    found = [shelf for shelf in shelves if given.spec in shelf.spec and given.target in shelf.target]
    exact = [shelf for shelf in found if given.spec in (shelf.name, shelf.spec)]
    if not found:
        known = "".join(f"\n  {words.line(shelf.spec)} on {words.line(shelf.target)}" for shelf in shelves) or " nothing yet"
        raise StoreError(f"no nodes of {given.spec or 'any spec'!r} on {given.target or 'any target'!r}; the store holds{known}")
    return exact or found


def _list(listing: Listing, terminal: Console, given: argparse.Namespace) -> None:
    shelves = listing.shelves()
    rows = [("spec", "target", "nodes", "working", "best", "last")]
    for shelf in shelves:
        best = f"{text.digits(shelf.best)}x (#{shelf.best_node})" if shelf.best else "none"
        rows.append((words.line(shelf.spec), words.line(shelf.target), f"{shelf.count:,}", f"{shelf.working:,}", best, shelf.last[:16]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[2:4] = [cell.rjust(width) for cell, width in zip(row[2:4], widths[2:4], strict=True)]
        shown = "  ".join(cells)
        _print(terminal, Text(shown.rstrip(), style="bold" if number == 0 else ""))
    if not shelves:
        _print(terminal, Text("no nodes yet"))


def _tree(listing: Listing, terminal: Console, given: argparse.Namespace) -> None:
    for number, shelf in enumerate(_chosen(listing, given)):
        graph = Graph.of(listing.store.nodes(shelf.spec, shelf.target, spec_hash=shelf.spec_hash))
        if number:
            terminal.print()
        shown = tree.render(shelf, graph, folded=not given.all)
        terminal.print(shown)
        if len(graph.nodes) < shelf.count:
            _print(terminal, Text(f"{text.plural(shelf.count - len(graph.nodes), 'node')} left out: their texts are missing or damaged"))


def _show(listing: Listing, terminal: Console, given: argparse.Namespace) -> None:
    node = listing.node(given.node)
    decision = listing.decisions([node.id]).get(node.id, {})
    for number, (heading, shown) in enumerate(node_text.render(node, listing.family(node.id), decision, full=given.full)):
        if number:
            terminal.print()
        _print(terminal, Text(heading, style="bold"))
        _print(terminal, Text("\n".join(f"  {row}".rstrip() for row in shown.split("\n"))))


def _diff(listing: Listing, terminal: Console, given: argparse.Namespace) -> None:
    node = listing.node(given.node)
    if given.other is None and not node.proposal.parents:
        raise StoreError(f"node {node.id} has no parent: name another node to compare it with, `kevolve search diff {node.id} OTHER`")
    other = listing.node(given.other if given.other is not None else node.proposal.parents[0])
    names = [f"node {one.id} {tree.gave(one)} {words.line(one.proposal.idea, 60)}" for one in (other, node)]
    before, after = (words.block(one.proposal.source).split("\n") for one in (other, node))
    lines = list(difflib.unified_diff(before, after, names[0], names[1], lineterm=""))
    for line in lines or [f"nodes {other.id} and {node.id} hold the same text"]:
        _print(terminal, Text(line, style=_diff_style(line)))


def _diff_style(line: str) -> str:
    if line.startswith(("+++", "---")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")


def _export(listing: Listing, terminal: Console, given: argparse.Namespace) -> None:
    lines: list[str] = []
    for shelf in _chosen(listing, given):
        nodes = listing.store.nodes(shelf.spec, shelf.target)
        decisions = listing.decisions([node.id for node in nodes])
        lines += [export.line(node, decisions.get(node.id, {})) for node in nodes]
    if given.out is None:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    try:
        write_atomically(given.out, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise StoreError(f"cannot write {given.out}: {error.strerror}") from error
    _print(terminal, Text(f"wrote {text.plural(len(lines), 'node')} to {given.out}"))


def _print(terminal: Console, shown: Text) -> None:
    """A line as it is: never wrapped, so that what is piped on stays whole."""
    terminal.print(shown, soft_wrap=True)
