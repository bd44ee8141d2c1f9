"""`pip install kevolve` into somebody else's repository: a wheel, a fresh environment, a project elsewhere."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = {
    "pyproject.toml": '[project]\nname = "theirs"\nversion = "1"\n[tool.pytest.ini_options]\npythonpath = ["src"]\n',
    "src/theirs/__init__.py": "",
    "src/theirs/ops.py": """\
import torch

def probabilities(scores: torch.Tensor) -> torch.Tensor:
    return torch.softmax(scores, dim=-1)
""",
    "tests/test_ops.py": """\
import kevolve
import pytest
from kevolve import Tensor, sizes
from theirs.ops import probabilities

@kevolve.kernel(probabilities, min_speedup=0.01, baseline=("eager",), vary=dict(rows=sizes(0, 64), cols=sizes(1, 300)))
@pytest.mark.parametrize("rows, cols", [(64, 257)])
def test_probabilities(rows, cols):
    return (Tensor(rows, cols),)

def test_something_else_of_theirs():
    assert probabilities.__name__ == "probabilities"
""",
}


def run(*command: str | Path, cwd: Path, timeout_s: int = 240) -> str:
    """Output of a command that must succeed, away from this checkout's environment variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "KEVOLVE", "PYTHON", "COV"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="building the wheel offline needs hatchling: pip install -e '.[dev]'")
    pytest.importorskip("build", reason="building the wheel offline needs build: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("kevolve-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: kevolve from its wheel, everything else as installed here (nothing is downloaded)."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    fresh = folder / "bin" / "python"
    run(fresh, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    packages = Path(run(fresh, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A line of a .pth adds a folder without reading that folder's own .pth files: this checkout, installed editable, stays out.
    searched = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(searched) + "\n")
    return fresh


def test_the_wheel_holds_what_the_package_reads_at_run_time(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "kevolve"
    read = {str(path.relative_to(ROOT)) for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert sorted(read - held) == []
    assert {"kevolve/py.typed", "kevolve/report/schema.json"} <= held
    assert not [name for name in held if name.startswith(("tests/", "suites/", "reference_ops/"))]


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler: apt-get install g++")
def test_somebody_elses_project_gets_its_kernel_written(python, tmp_path):
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    where = run(python, "-c", "import kevolve; print(kevolve.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(python.parents[1])

    common = (python, "-m", "pytest", "tests", "-p", "no:cacheprovider", "--kevolve-budget", "evaluations=2")
    shown = run(*common, "--kevolve-optimize", "--kevolve-record", "run.json", cwd=tmp_path)
    kernel = tmp_path / "tests" / "kernels" / "probabilities" / "cpu.cpp"
    assert "3 passed" in shown
    assert kernel.read_text().startswith("// probabilities:")
    assert (tmp_path / "run.json").exists()

    before = kernel.stat().st_mtime_ns
    assert "3 passed" in run(*common, cwd=tmp_path)
    assert kernel.stat().st_mtime_ns == before
