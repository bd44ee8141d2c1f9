import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kevolve"
DEVICE_WORD = re.compile("cuda", re.IGNORECASE)
DEVICE_FOLDERS = ("targets", "languages")
DOCUMENTS = PACKAGE / "knowledge" / "documents"  # they are about devices


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in (".py", ".jinja", ".j2", ".json", ".md"))


def about_devices(path: Path) -> bool:
    return path.relative_to(PACKAGE).parts[0] in DEVICE_FOLDERS or DOCUMENTS in path.parents


def test_the_imports_point_one_way():
    checker = Path(sys.executable).with_name("lint-imports")
    if not checker.exists():
        pytest.skip("import-linter is not installed here: pip install -e '.[dev]'")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([checker, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_a_device_is_named_only_by_targets_and_languages():
    elsewhere = [
        path for path in sources(PACKAGE) if path.relative_to(PACKAGE).parts[0] not in DEVICE_FOLDERS and DOCUMENTS not in path.parents
    ]
    naming = [str(path.relative_to(ROOT)) for path in elsewhere if DEVICE_WORD.search(path.read_text(encoding="utf-8"))]
    assert elsewhere
    assert naming == []


def test_no_module_is_longer_than_500_lines():
    long = {str(path.relative_to(ROOT)): lines for path in PACKAGE.rglob("*.py") if (lines := path.read_text().count("\n")) > 500}
    assert long == {}


def test_every_entry_point_of_the_package_loads():
    from kevolve import registry

    for group in registry.GROUPS:
        for name in registry.names(group):
            assert registry.load(group, name) is not None
