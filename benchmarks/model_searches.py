"""Searches with a model for several specs at once, measured elsewhere: each in a clone of its own, so that they share nothing.

    python -m benchmarks.model_searches start FOLDER --model "command:my-agent {name} {workspace}" wukong_fm wukong_fm:off inverted_index
    python -m benchmarks.model_searches device FOLDER reports/h200.json    # answers what they ask of the device from a record of it
    python -m benchmarks.model_searches rounds FOLDER OUT                  # the rounds that wait, to be carried to `kevolve evaluate OUT`
    python -m benchmarks.model_searches results FOLDER OUT                 # its results, laid beside their rounds: the searches go on
    python -m benchmarks.model_searches fittest FOLDER .                   # there: what came out best, beside its test in the checkout
    python -m benchmarks.model_searches exchanges FOLDER OUT               # what was asked and answered, to start from another day
    python -m benchmarks.model_searches graphs FOLDER OUT NAME …           # every step of these searches, as `kevolve search export` says

``:off`` searches without retrieval. ``--recorded FOLDER`` answers from kept exchanges (as long as prompts are the same) and asks nobody.
A search that was killed goes on when it is started again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "attention": ("test_paper_attention.py", "test_attention and not decode"),
    "attention_decode": ("test_paper_attention.py", "test_attention_decode"),
    "conv1d": ("test_paper_convolutions.py", "test_conv1d"),
    "conv2d": ("test_paper_convolutions.py", "test_conv2d"),
    "inverted_index": ("test_paper_retrieval.py", "test_inverted_index"),
    "map_id": ("test_paper_recommendation.py", "test_map_id"),
    "pffn": ("test_paper_interformer.py", "test_pffn"),
    "sdpa_mlp_decode": ("test_paper_transformer.py", "test_sdpa_mlp_decode"),
    "wukong_fm": ("test_paper_recommendation.py", "test_wukong_fm and not training"),
    "wukong_fm_training": ("test_paper_recommendation.py", "test_wukong_fm_training"),
}
MODEL = "command:agent {workspace}"  # as kept exchanges name it: what stood there is a matter of one machine
BUDGET = "evaluations=10,minutes=900,stall=10,step=480"
SEED = 20261122
_KEPT = Path(".kevolve") / "exchanges.jsonl"
_OF_DEVICE = ("memory", "multiprocessors", "l2", "driver", "driver_cuda", "torch_cuda")  # of a record's versions


def main() -> None:
    """The seven commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("start", "device", "rounds", "results", "fittest", "exchanges", "graphs"))
    parser.add_argument("folder", type=Path, help="where the searches live")
    parser.add_argument("rest", nargs="+", metavar="NAME|PATH", help=f"start: of {', '.join(TESTS)}, each with :off or without")
    parser.add_argument("--model", help="start: as --kevolve-model; {name} stands for the search's")
    parser.add_argument("--recorded", type=Path, metavar="FOLDER", help="start: answers from exchanges kept there")
    parser.add_argument("--commit", help="start: search with kevolve as it was there, for kept answers to prompts that have changed since")
    parser.add_argument("--budget", default=BUDGET)
    parser.add_argument("--languages", default="cuda,triton")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.command == "start":
        if (given.model is None) == (given.recorded is None):
            parser.error("start: expected --model or --recorded")
        for name in given.rest:
            print(start(folder, name, given), flush=True)
    elif given.command == "device":
        for told in device(folder, Path(given.rest[0])):
            print(told)
    elif given.command == "graphs":
        for path in graphs(folder, Path(given.rest[0]), given.rest[1:]):
            print(path)
    else:
        move = {"rounds": rounds, "results": results, "fittest": fittest, "exchanges": exchanges}[given.command]
        for path in move(folder, Path(given.rest[0])):
            print(path)


def start(folder: Path, name: str, given: argparse.Namespace) -> str:
    """Begin one search, or go on with it, in the background; what it prints goes to ``FOLDER/NAME/log``."""
    spec, _, mode = name.partition(":")
    file, selected = TESTS[spec]
    place = folder / name.replace(":", "-")
    if not (place / "repo").exists():
        subprocess.run(["git", "clone", "--quiet", ROOT, place / "repo"], check=True)
        if given.commit is not None:
            subprocess.run(["git", "-C", place / "repo", "checkout", "--quiet", given.commit], check=True)
    if given.recorded is not None:
        (place / "exchanges.jsonl").write_bytes(gzip.decompress((given.recorded / f"{place.name}.jsonl.gz").read_bytes()))
        model = f"recorded:{place / 'exchanges.jsonl'}"
    else:
        model = given.model.replace("{name}", place.name)
    command = [
        *(sys.executable, "-m", "pytest", f"suites/paper/{file}", "-k", selected, "--kevolve-optimize=all"),
        *("--kevolve-target", "cuda", "--kevolve-language", given.languages, "--kevolve-seed", str(SEED)),
        *("--kevolve-budget", given.budget, "--kevolve-model", model, "--kevolve-evaluator", f"spool:{place / 'spool'}"),
        *(("--kevolve-knowledge", "none") if mode == "off" else ()),
    ]
    environment = os.environ | {"PYTHONPATH": str(place / "repo")}
    with (place / "log").open("a") as log:
        begun = subprocess.Popen(command, cwd=place / "repo", env=environment, stdout=log, stderr=log, start_new_session=True)
    return f"{place.name}: process {begun.pid}, {place / 'log'}"


def waiting(folder: Path) -> Iterator[tuple[Path, str]]:
    """Rounds that no results lie beside, and the name of each one's search."""
    for path in sorted(folder.glob("*/spool/*.round.zip")):
        if not path.with_name(path.name.replace(".round.", ".results.")).exists():
            yield path, path.parents[1].name


def rounds(folder: Path, out: Path) -> Iterator[Path]:
    """Copies of the rounds that wait; their names say whose they are, in letters that every machine's copying lets through."""
    out.mkdir(parents=True, exist_ok=True)
    for path, name in waiting(folder):
        yield Path(shutil.copy(path, out / f"{name}.{path.name}"))


def results(folder: Path, out: Path) -> Iterator[Path]:
    """Lay each result beside its round: under its own name at once whole, since the search looks there every second.

    A search that was begun anew asks for the same jobs, perhaps in another order, and its round has another hash: it gets that one.
    """
    for path in sorted(out.glob("*.results.zip")):
        name, _, own = path.name.partition(".")
        partly = folder / name / "spool" / f"{own}.partly"
        partly.write_bytes(_readdressed(path, partly.with_name(own.replace(".results.", ".round."))))
        yield partly.rename(partly.with_suffix(""))


def _readdressed(path: Path, waiting: Path) -> bytes:
    """The results of the round beside them as those of the round that waits; both must ask for the same jobs of the same seeds."""
    from kevolve.spool import results as results_file
    from kevolve.spool import round as round_file

    carried = round_file.read(path.with_name(path.name.replace(".results.", ".round.")))
    asked = round_file.read(waiting)
    if asked.sha256 == carried.sha256:
        return path.read_bytes()
    one, other = carried.round, asked.round
    if set(one.identities) != set(other.identities) or (one.plan_seed, one.kept, one.files) != (other.plan_seed, other.kept, other.files):
        raise SystemExit(f"{path.name}: these are results of another round than {waiting}: other candidates, seeds or files")
    found = results_file.read(path, carried)
    by_job = {each.job: each for each in found.results}
    ordered = tuple(by_job[job] for job in other.identities)
    return replace(found, round=asked.sha256, results=ordered).packed()


def fittest(folder: Path, checkout: Path) -> Iterator[str]:
    """Of each spec that rounds and results in ``folder`` are of, lay the fittest candidate beside the test, unless it stands there.

    For a run of the suite on the machine that measured them: the whole plan and every case with its interval decide there and then.
    """
    from kevolve import registry
    from kevolve.spool import results as results_file
    from kevolve.spool import round as round_file

    best: dict[str, tuple[float, Any, Any]] = {}
    for path in sorted(folder.glob("*.results.zip")):
        asked = round_file.read(path.with_name(path.name.replace(".results.", ".round.")))
        fitness = {each.job: each.fitness for each in results_file.read(path, asked).results}
        for job in asked.round.jobs:
            found = fitness[asked.round.identity(job)]
            if found > best.get(asked.round.declared.nodeid, (0.0,))[0]:
                best[asked.round.declared.nodeid] = (found, job, asked.round)
    for nodeid, (found, job, round) in best.items():
        language = registry.load("languages", job.language)
        kernels = checkout / Path(nodeid.partition("::")[0]).parent / "kernels" / round.declared.name
        present = kernels / f"{round.target}{language.suffix}"
        if present.exists() and language.normalise(present.read_text()) == language.normalise(job.source):
            yield f"{round.declared.name}: {found:.2f}x, stands there"
            continue
        for other in kernels.glob(f"{round.target}.*"):
            other.unlink()
        kernels.mkdir(parents=True, exist_ok=True)
        present.write_text(job.source)
        yield f"{round.declared.name}: {found:.2f}x, {present.relative_to(checkout)}"


def exchanges(folder: Path, out: Path) -> Iterator[Path]:
    """Each search's exchanges under the neutral name of the model."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob(f"*/repo/{_KEPT}")):
        kept = out / f"{path.parents[2].name}.jsonl.gz"
        kept.write_bytes(gzip.compress(_neutral(path.read_text()).encode(), mtime=0))
        yield kept


def graphs(folder: Path, out: Path, names: Sequence[str]) -> Iterator[Path]:
    """Each search's graph under the neutral name of the model."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        place, kept = folder / name.replace(":", "-"), out / f"{name.replace(':', '-')}.jsonl.gz"
        command = [Path(sysconfig.get_path("scripts")) / "kevolve", "search", "export"]
        text = subprocess.run(command, cwd=place / "repo", stdout=subprocess.PIPE, text=True, check=True).stdout
        kept.write_bytes(gzip.compress(_neutral(text).encode(), mtime=0))
        yield kept


def _neutral(text: str) -> str:
    """Lines of JSON without what is a matter of one machine: how its model is called, where packages lie."""
    for own in {entry["model"] for entry in map(json.loads, text.splitlines()) if entry.get("model")}:
        text = text.replace(json.dumps(own, ensure_ascii=False)[1:-1], MODEL).replace(json.dumps(own)[1:-1], MODEL)
    return text.replace(f"{sysconfig.get_path('purelib')}/", "").replace(f"{ROOT}/", "")


def device(folder: Path, record: Path) -> Iterator[str]:
    """Answer the rounds that only ask about the device: its name and peaks as the record has them, the floors that follow."""
    from kevolve.report.record import Record
    from kevolve.spool import round as round_file
    from kevolve.spool.results import Results

    data = json.loads(record.read_text())
    environment = replace(Record.from_json(data).environment, commit=None)
    versions = {name: environment.versions[name] for name in _OF_DEVICE if name in environment.versions}
    about = {"name": environment.device, "arch": environment.arch, **versions}
    for path, name in waiting(folder):
        asked = round_file.read(path)
        if not asked.round.jobs:
            facts = _facts(data["environment"]["peaks"], asked.round)
            answer = Results(round=asked.sha256, environment=environment, results=(), facts=facts, device=about)
            partly = path.with_name(f"{path.name}.partly")
            partly.write_bytes(answer.packed())
            partly.rename(path.with_name(path.name.replace(".round.", ".results.")))
            yield f"{name}: {environment.device}"


def _facts(raw: dict[str, Any], asked: Any) -> dict[str, Any]:
    """What a measuring machine says before any candidate; the spec is made again from the round's own files."""
    from kevolve.evaluate.foreseen import known_cases
    from kevolve.operators.trace import trace_reference
    from kevolve.spool.declared import rebuild
    from kevolve.targets import Peaks

    peaks = Peaks(**{name: tuple(map(tuple, value)) if isinstance(value, list) else value for name, value in raw.items()})
    with tempfile.TemporaryDirectory() as modules:
        for name, text in asked.files.items():
            (Path(modules) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(modules) / name).write_bytes(text)
        sys.path.insert(0, modules)
        try:
            spec = rebuild(asked.declared)
            unread = frozenset(trace_reference(spec, target=asked.target).indexed_inputs) if spec.work is None else frozenset()
            known = known_cases(spec, spec.cases, peaks, unread=unread)
        finally:
            sys.path.remove(modules)
            for name in [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(modules)]:
                del sys.modules[name]  # the next round has a module of the same name
    return {"peaks": asdict(peaks), "cases": {case: each for case, each in known.items() if each}}


if __name__ == "__main__":
    main()
