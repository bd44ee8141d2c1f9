"""What lowering makes of the sixty references.

Plainly: in a fresh project without samples (`--folder`), kevolve's own command with the operator `lowering` alone; for each spec whether
a kernel was accepted or what is not covered, the seconds to the draft, in C++ the speedups, in Triton (interpreted: correctness only)
what compiles ahead of time for GPUs. Kept in `results-LANGUAGE.json` after each; what is kept already of the same text is not run again.

`--check-only`: each is lowered, printed, built and compared with the oracle on a few dozen draws, in a process of its own; what
fails is told with the smallest draw found, which `--draw` runs alone. The exit status is 1 where a kernel is wrong.

`--ahead-only`: what of the Triton drafts compiles ahead of time for GPUs, nothing else.

`--document` writes docs/lowering.md from what is kept, and runs nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kevolve.spec.spec import Spec

HERE = Path(__file__).resolve().parent
CHECK_S = {"cpp": 120.0, "triton": 300.0}


def main() -> int:
    """Measure or check the specs named, or all. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="specs (default: all)")
    parser.add_argument("--language", choices=("cpp", "triton"), default="cpp")
    parser.add_argument("--document", type=Path, default=None, metavar="FILE", help="write the page from what is kept")
    measuring = parser.add_argument_group("measuring")
    folder = Path(tempfile.gettempdir()) / "kevolve-lowering-project"
    measuring.add_argument("--folder", type=Path, default=folder, help=f"of the fresh project (default: {folder})")
    measuring.add_argument("--again", action="store_true", help="measure what is kept already, too")
    measuring.add_argument("--no-ahead", action="store_true", help="in Triton: compile nothing ahead of time")
    checking = parser.add_argument_group("--check-only")
    checking.add_argument("--check-only", action="store_true", help="correctness on a few dozen draws, nothing is timed")
    checking.add_argument("--draws", type=int, default=24, help="of a spec (default: 24)")
    checking.add_argument("--seed", type=int, default=7, help="of the draws (default: 7)")
    checking.add_argument("--draw", default=None, metavar="JSON", help="this draw alone, as a failure prints it")
    checking.add_argument("--print", action="store_true", help="print each kernel too")
    checking.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="write each kernel there")
    checking.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the verdicts there")
    parser.add_argument("--ahead-only", action="store_true", help="compile the Triton drafts for GPUs, nothing else")
    options = parser.parse_args()
    if options.document:
        from benchmarks.lowering.document import document

        options.document.write_text(document())
        subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", options.document], check=False)  # as `make lint` wants it
        return 0
    if options.ahead_only:
        return ahead_only(options)
    return check_only(options) if options.check_only else measured(options)


def collected(names: list[str]) -> dict[str, Spec]:
    """The specs named, or all. Exits where there is no such spec."""
    from benchmarks.specs import collect

    specs = collect(folder=HERE)
    unknown = [name for name in names if name not in specs]
    if unknown:
        sys.exit(f"no such spec: {', '.join(unknown)}; there are {', '.join(specs)}")
    return {name: specs[name] for name in names or specs}


def measured(options: argparse.Namespace) -> int:
    """Run the measurement and print what is kept of it."""
    from benchmarks.lowering.measure import measure, summary

    specs = collected(options.names)
    folder = options.folder / options.language
    results = measure(
        specs, options.language, folder, again=options.again, ahead=not options.no_ahead, say=lambda text: print(text, flush=True)
    )
    print("\n".join(summary(results)))
    return 0


def ahead_only(options: argparse.Namespace) -> int:
    """Compile Triton drafts for GPUs and print what refuses them."""
    from benchmarks.lowering.ahead import compiled_everywhere
    from benchmarks.lowering.drafts import timed_draft

    refused = 0
    for name, spec in collected(options.names).items():
        draft = timed_draft(spec, "triton").draft
        with tempfile.TemporaryDirectory(prefix="kevolve-ahead-") as folder:
            found = compiled_everywhere(spec, draft.source, Path(folder)) if draft.source else {}
        problems = {arch: side["problem"] for arch, side in found.items() if "problem" in side}
        refused += bool(problems)
        counts = {arch: side["kernels"] for arch, side in found.items() if "kernels" in side}
        elsewhere = {kernel: "no case launches it" for side in found.values() for kernel in side.get("elsewhere", ())}
        print(f"{name:28s} {draft.problem or counts} {problems or elsewhere or ''}", flush=True)
    print(f"{refused} do not compile everywhere")
    return 1 if refused else 0


def check_only(options: argparse.Namespace) -> int:
    """Run the quick check and print what it found."""
    if options.language == "triton":
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton
    for name in ("torch._dynamo", "torch.fx.experimental.proxy_tensor"):
        import_module(name)  # what every trace needs: once, as each spec is checked in a fork of this process
    from benchmarks.lowering import quick
    from benchmarks.lowering.project import SUFFIX
    from kevolve.spec.spec import Draw, decode

    verdicts = []
    for name, spec in collected(options.names).items():
        only = decode(spec, Draw.from_json(options.draw)) if options.draw else None
        limit_s = CHECK_S[options.language]
        verdict = quick.check_apart(spec, options.language, count=options.draws, seed=options.seed, limit_s=limit_s, only=only)
        verdicts.append(verdict)
        if options.print and verdict.source:
            print(verdict.source)
        if options.keep and verdict.source:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{name}.{SUFFIX[options.language]}").write_text(verdict.source)
        print(verdict.line, flush=True)
    print(quick.table(verdicts))
    if options.json:
        quick.write(options.json, verdicts)
    return 1 if any(verdict.status in ("wrong", "crashed", "refused", "failed") for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
