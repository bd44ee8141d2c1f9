"""Our documents: enough, each with a source and evidence, samples compiled. ``KEVOLVE_DOCUMENTS=all``: for every architecture."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kevolve.knowledge.documents import OURS, Document, files, identifier, parse
from kevolve.knowledge.index import INDEX, index
from kevolve.knowledge.terms import ARCHITECTURES
from kevolve.languages import native

FEWEST = 80
_BLOCK = re.compile(r"^```(\w+) sample[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_FLAGS = re.compile(r"^\s*//\s*flags:\s*(.*)$", re.MULTILINE)
_EVERY = os.environ.get("KEVOLVE_DOCUMENTS") == "all"
_VENDORS = {"nvidia": "sm90", "amd": "gfx942"}


def documents() -> list[Document]:
    return [parse(path.read_text(encoding="utf-8"), path, identifier(path, OURS)) for path in files(OURS)]


DOCUMENTS = documents()
SAMPLES = [(document, language, code) for document in DOCUMENTS for language, code in _BLOCK.findall(document.text)]


def named(parts: tuple[Document, str, str]) -> str:
    return f"{parts[0].id}-{parts[1]}"


def samples(language: str) -> list[Any]:
    return [pytest.param(document, code, id=document.id) for document, found, code in SAMPLES if found == language]


@pytest.mark.parametrize("document, code", samples("triton"))
def test_a_triton_sample_compiles_ahead_of_time(document, code, tmp_path, monkeypatch):
    import triton
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    signatures = loaded(code, tmp_path).signatures()
    assert signatures
    for kernel, arguments, constants in signatures:
        types = {name: arguments.get(name, "constexpr") for name in kernel.arg_names}
        for target in gpu_targets(document):
            compiled = triton.compile(ASTSource(fn=kernel, signature=types, constexprs=constants), target=target)
            assert compiled.asm


def gpu_targets(document: Document) -> Iterator[Any]:
    """One of the document's architectures, or each."""
    from triton.backends.compiler import GPUTarget

    known = [*ARCHITECTURES["nvidia"], *ARCHITECTURES["amd"]]
    named = [arch for arch in document.architectures if arch in known]
    chosen = named or [_VENDORS[vendor] for vendor in document.vendor if vendor in _VENDORS] or ["sm90", "gfx942", "sm80"]
    for arch in chosen if _EVERY else chosen[:1]:
        yield GPUTarget("hip", arch, 64) if arch.startswith("gfx") else GPUTarget("cuda", int(arch.removeprefix("sm")), 32)


def loaded(code: str, folder: Path) -> Any:
    path = folder / "sample.py"
    path.write_text(code)
    found = importlib.util.spec_from_file_location("sample", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document, code", samples("cpp"))
def test_a_cpp_sample_compiles(document, code, tmp_path):
    (tmp_path / "sample.cpp").write_text(code)
    flags = [flag for line in _FLAGS.findall(code) for flag in line.split()]
    command = [
        "g++",
        "-std=c++20",
        "-O3",
        "-march=native",
        "-fopenmp",
        "-fPIC",
        *native.includes(),
        *flags,
        "-c",
        "sample.cpp",
        "-o",
        "sample.o",
    ]
    ended(command, tmp_path)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here: pip install 'kevolve[cuda]'")
@pytest.mark.parametrize("document, code", samples("cuda"))
def test_a_cuda_sample_compiles(document, code, tmp_path):
    (tmp_path / "sample.cu").write_text(code)
    flags = [flag for line in _FLAGS.findall(code) for flag in line.split()]
    architecture = [] if any(flag.startswith("-arch") for flag in flags) else ["-arch=sm_90"]
    command = ["nvcc", "-std=c++17", "-O3", *architecture, *native.includes(), *flags, "-c", "sample.cu", "-o", "sample.o"]
    ended(command, tmp_path)


@pytest.mark.parametrize("document, code", samples("python"))
def test_a_python_sample_runs(document, code, tmp_path):
    (tmp_path / "sample.py").write_text(code)
    ended([sys.executable, "sample.py"], tmp_path)


def ended(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"


def test_every_sample_is_in_a_language_that_is_compiled():
    assert {language for _, language, _ in SAMPLES} <= {"triton", "cpp", "cuda", "python"}


def test_there_are_enough_documents_each_known_by_one_id():
    ids = [document.id for document in DOCUMENTS]
    assert len(ids) == len(set(ids))
    assert len(ids) >= FEWEST


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.id)
def test_a_document_has_a_public_source_and_its_evidence(document):
    assert all(source.startswith("https://") for source in document.source)
    if document.evidence == "sample":
        assert _BLOCK.search(document.text)
    else:
        assert re.search(r"\d", document.text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.id)
def test_a_document_can_be_read_in_a_prompt(document):
    prose = _BLOCK.sub("", document.text)
    assert 60 <= len(prose.split()) <= 1000


def test_the_index_is_up_to_date():
    assert (OURS / INDEX).read_text(encoding="utf-8") == index(DOCUMENTS), "run: python -m kevolve.knowledge.index"
