import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "triton", "hypothesis", "openai", "anthropic", "jinja2", "sqlalchemy", "tabulate", "rich", "numpy", "tvm_ffi")


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after ``statement``."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import kevolve",
        "import kevolve.plugin",
        "import kevolve\nkevolve.kernel, kevolve.Tensor, kevolve.sizes, kevolve.on",
        "import kevolve.cli\nkevolve.cli.parser()",
        "import contextlib, kevolve.cli\nwith contextlib.suppress(SystemExit):\n    kevolve.cli.main(['--help'])",
    ],
)
def test_the_import_loads_nothing_heavy(statement):
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_the_heavy_packages_are_seen_when_they_are_loaded():
    assert "rich" in loaded_by("import rich")


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import kevolve

    with pytest.raises(AttributeError, match="module 'kevolve' has no attribute 'kernels'"):
        _ = kevolve.kernels


def test_every_public_name_is_there():
    import kevolve

    assert [name for name in kevolve.__all__ if not hasattr(kevolve, name)] == []
