"""Kernel files beside the tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from kevolve.search.accept import accept, find_kernel
from tests.search.test_header import HEADER, RENDERED, SOURCE


class Language:
    """Only what acceptance looks at."""

    def __init__(self, name: str, suffix: str, comment: str) -> None:
        self.name, self.suffix, self.comment = name, suffix, comment

    def normalise(self, source: str) -> str:
        return "\n".join(line for line in source.splitlines() if line and not line.startswith(self.comment))


CPP, TRITON = Language("cpp", ".cpp", "//"), Language("triton", ".py", "#")


@pytest.fixture
def spec(tmp_path: Path):
    return SimpleNamespace(name="rms_norm", folder=tmp_path)


def put(spec, name: str, text: str = "") -> Path:
    path = spec.folder / "kernels" / "rms_norm" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_kernel_is_written_with_its_header(spec):
    written = accept(spec, "cpu", CPP, SOURCE, HEADER, idea="i")
    assert written.path == spec.folder / "kernels" / "rms_norm" / "cpu.cpp"
    assert written.path.read_text() == RENDERED
    assert list(written.path.parent.iterdir()) == [written.path]


def test_a_review_leaves_the_old_kernel_and_shows_the_difference(spec):
    old = put(spec, "cpu.cpp", RENDERED.replace("one pass", "two passes"))
    before = old.read_text()
    written = accept(spec, "cpu", CPP, SOURCE, HEADER, idea="i", review=True)
    assert (written.path.name, written.old, old.read_text()) == ("cpu.new.cpp", old, before)
    assert written.path.read_text() == RENDERED
    assert written.diff is not None
    assert written.diff.splitlines()[:2] == [f"--- {old}", f"+++ {written.path}"]
    assert [line for line in written.diff.splitlines()[2:] if line[0] in "+-"] == ["-// idea: two passes", "+// idea: one pass"]
    assert find_kernel(spec, "cpu", None, [CPP]).variants == ()


def test_a_review_of_a_first_kernel_is_all_new(spec):
    written = accept(spec, "cpu", CPP, SOURCE, HEADER, idea="i", review=True)
    assert written.old is None
    assert written.diff is not None
    assert written.diff.startswith("--- /dev/null\n")


def test_a_header_that_would_change_the_kernel_is_refused(spec):
    with pytest.raises(ValueError, match="cpp does not ignore '#' lines"):
        accept(
            spec, "cpu", type("Odd", (Language,), {"normalise": lambda self, source: source})("cpp", ".cpp", "#"), SOURCE, HEADER, idea="i"
        )
    assert not (spec.folder / "kernels").exists()


def test_no_kernel_is_none(spec):
    assert find_kernel(spec, "cpu", None, [CPP]) is None
    put(spec, "cuda.py")
    put(spec, "cpu-avx512.cpp")
    put(spec, "cpu2.cpp")
    assert find_kernel(spec, "cpu", "avx2", [CPP]) is None


def test_the_most_specific_file_wins(spec):
    plain, sm90 = put(spec, "cuda.py"), put(spec, "cuda-sm90.py")
    put(spec, "cuda-sm80.py")
    assert find_kernel(spec, "cuda", "sm90", [CPP, TRITON]).path == sm90
    assert find_kernel(spec, "cuda", "sm100", [CPP, TRITON]).path == plain
    assert find_kernel(spec, "cuda", None, [CPP, TRITON]).path == plain


def test_of_equally_specific_files_the_first_language_wins(spec):
    cpp, triton = put(spec, "cpu.cpp"), put(spec, "cpu.py")
    assert find_kernel(spec, "cpu", None, [CPP, TRITON]).path == cpp
    assert find_kernel(spec, "cpu", None, [TRITON, CPP]).path == triton


def test_variants_are_listed_with_their_condition_and_the_plain_file_is_chosen(spec):
    plain = put(spec, "cuda.py", "# rms_norm: x\n")
    put(spec, "cuda-sm90.short_rows.py", "# rms_norm: x\n# when: cols <= 512\n")
    put(spec, "cuda-sm80.other.py")
    found = find_kernel(spec, "cuda", "sm90", [TRITON])
    assert (found.path, found.variant, found.source) == (plain, None, "# rms_norm: x\n")
    assert [(each.arch, each.variant, each.when) for each in found.variants] == [("sm90", "short_rows", "cols <= 512")]
