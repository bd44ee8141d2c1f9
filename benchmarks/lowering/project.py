"""The references in a project of their own, without samples, and kevolve's own command there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kevolve.spec.spec import Spec

HERE = Path(__file__).resolve().parent
FOLDER = Path("benchmarks") / "lowering"
INI = "[pytest]\npythonpath = .\n"
SUFFIX = {"cpp": "cpp", "triton": "py"}


def make_project(folder: Path) -> Path:
    """Copy the references, as their README says, to where no kernels are; what an earlier call made is replaced but for kevolve's cache."""
    shutil.rmtree(folder / "benchmarks", ignore_errors=True)
    (folder / FOLDER).mkdir(parents=True)
    for source in [*HERE.glob("test_*.py"), HERE / "__init__.py"]:
        shutil.copy(source, folder / FOLDER)
    shutil.copytree(HERE / "operators", folder / FOLDER / "operators", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "pytest.ini").write_text(INI)
    return folder


def optimise(folder: Path, spec: Spec, language: str, *, limit_s: float) -> dict[str, Any]:
    """Run the command for one spec; what its record says, the kernel, and the end of the output where there is no record."""
    kernels, record = folder / FOLDER / "kernels" / spec.name, folder / "record.json"
    shutil.rmtree(kernels, ignore_errors=True)
    shutil.rmtree(folder / ".kevolve", ignore_errors=True)
    record.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        done = subprocess.run(
            command(spec, language, record), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=limit_s
        )
        ended, said = f"exit status {done.returncode}", done.stdout + done.stderr
    except subprocess.TimeoutExpired as expired:
        ended, said = f"stopped after {limit_s:.0f} s", (expired.stdout or b"").decode(errors="replace")
    file = kernels / f"cpu.{SUFFIX[language]}"
    return {
        "record": json.loads(record.read_text()) if record.exists() else None,
        "kernel": file.read_text() if file.exists() else "",
        "ended": ended,
        "said": said,
        "seconds": time.monotonic() - began,
    }


def command(spec: Spec, language: str, record: Path) -> list[str]:
    """The project's own command, with lowering alone."""
    test = spec.nodeid.rpartition("/")[2]
    options = dict(optimize="all", target="cpu", language=language, operators="lowering", budget="evaluations=1,minutes=30", record=record)
    given = [f"--kevolve-{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(FOLDER / test), *given]


def environment(folder: Path) -> Mapping[str, str]:
    """This process's without its Python paths; built kernels and measured peaks are kept beside the project."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRITON_INTERPRET")}
    return {**kept, "KEVOLVE_CACHE": str(folder / "cache")}
