"""Triton: a Python file whose entry function allocates the outputs and launches ``@triton.jit`` kernels.

On the CPU the kernels are interpreted (``TRITON_INTERPRET=1`` in the worker's environment): they are checked there, not timed.
For a GPU they are compiled ahead of time (``triton_ahead``), in a child that holds no device. Triton itself is imported in the
workers only.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kevolve.files import write_atomically
from kevolve.languages import Ahead, BuildError, Built, Counts, Loaded, python_source, triton_binaries
from kevolve.languages.python_source import words

if TYPE_CHECKING:
    from kevolve.targets import Target

AMD = ("gfx942", "gfx950")
CACHE = "triton"  # Triton's own cache, in a child's scratch folder
IMPORTS = words("torch triton triton.language triton.tools.tensor_descriptor math typing __future__")
TRITON_NAMES = words("""
    jit autotune heuristics Config cdiv next_power_of_2 constexpr_function
    tools.tensor_descriptor.TensorDescriptor tools.tensor_descriptor.TensorDescriptor.from_tensor
""")
# What runs assembler or foreign code, or reaches the compiler's insides.
FORBIDDEN_TL = words("inline_asm_elementwise core semantic extra target_info")
DTYPES = words("""
    float16 float32 float64 bfloat16 half float double int8 int16 int32 int64 uint8 uint16 uint32 uint64 int long bool
    float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz
""")
ALLOCATION = words("empty empty_like empty_strided zeros zeros_like ones ones_like full full_like")
TORCH_NAMES = (
    DTYPES
    | ALLOCATION
    | words(
        "Tensor dtype device Size finfo iinfo is_tensor no_grad contiguous_format autograd.Function autograd.function.once_differentiable"
    )
)
VIEWS = words("""
    view view_as reshape flatten unflatten squeeze unsqueeze transpose permute movedim expand expand_as narrow select split chunk
    unbind t T mT as_strided detach diagonal swapaxes contiguous clone
""")
# `item` and `tolist` read the sizes that depend on the data.
METADATA = words("""
    shape dtype device ndim size stride dim numel nelement element_size itemsize data_ptr storage_offset is_contiguous layout
    is_floating_point is_complex is_signed requires_grad index is_cuda is_cpu item tolist bit_length
""")
ATTRIBUTES = (
    VIEWS
    | METADATA
    | words("new_empty new_zeros new_full new_ones new_empty_strided")
    | words("save_for_backward saved_tensors needs_input_grad mark_non_differentiable set_materialize_grads apply")
    | words("append extend insert pop keys values items get update setdefault join startswith endswith from_tensor")
)
DEVICE = words("triton.jit triton.constexpr_function")
DECORATORS = DEVICE | words("""
    triton.autotune triton.heuristics staticmethod classmethod property torch.no_grad torch.autograd.function.once_differentiable
""")
CONSTANTS = words("""
    triton.language.constexpr triton.Config float int bool tuple list dict set frozenset range min max len math.log math.sqrt
""")
WRAPPERS = ("torch.", "torch.nn.functional.", "torch.ops.aten.", "torch.special.", "torch.linalg.")
# Operators whose everyday names dispatch to another name.
SPELLINGS = {
    "mm": ("matmul", "linear", "einsum"),
    "bmm": ("matmul", "einsum", "baddbmm"),
    "addmm": ("linear", "matmul"),
    "convolution": ("conv1d", "conv2d", "conv3d"),
    "_softmax": ("softmax",),
    "_log_softmax": ("log_softmax",),
}


def allowed_operators(allow: Sequence[str]) -> frozenset[str]:
    """The Python names by which ``allow``'s operators (``"aten::mm"``, ``"aten::mm.out"``) may be called."""
    plain = {name.rpartition("::")[2].partition(".")[0] for name in allow}
    return frozenset(plain.union(*(SPELLINGS.get(name, ()) for name in plain)))


class Triton:
    """The language ``triton``."""

    name = "triton"
    suffix = ".py"
    comment = "#"
    preload = ("kevolve.languages.triton_preload",)  # imported by the worker's server before it forks

    def missing(self) -> str | None:
        """None where Triton is installed, else the command that installs it."""
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed: pip install 'triton>=3.6,<4'"
        return None

    def versions(self) -> Mapping[str, str]:
        """Triton's version, read from its metadata."""
        return {"triton": importlib.metadata.version("triton")}

    def parse(self, source: str, entry: str) -> str | None:
        """Say what is wrong with the syntax, or that there is no plain function ``entry``."""
        return python_source.parse(source, entry, device=DEVICE)

    def policy(self, source: str, allow: Sequence[str]) -> str | None:
        """Say what the file may not do, a line each.

        A kernel imports torch, Triton, math and typing; of torch it uses allocation, views and metadata, and the operators that
        ``allow`` names; it touches no Python internals, files or other modules' attributes, and does nothing at import.
        This reads the syntax tree: a cheap filter, not isolation (see ``python_source``).
        """
        return python_source.policy(source, _rules(allowed_operators(allow)))

    def normalise(self, source: str) -> str:
        """The text without comments, docstrings and layout."""
        return python_source.normalise(source)

    def build(self, source: str, *, entry: str, target: Target, cache: Path, timeout_s: float) -> Built:
        """Write the source to ``cache`` under its hash; ``ahead`` compiles its specialisations, or their first launch."""
        started = time.perf_counter()
        artifact = cache / f"{_digest(source)}{self.suffix}"
        cached = artifact.exists()
        if not cached:
            write_atomically(artifact, source)
        return Built(artifact=artifact, seconds=time.perf_counter() - started, cached=cached)

    def load(self, artifact: Path, *, entry: str, target: Target) -> Loaded:
        """Run the file as a module of its own and find its functions. In the worker only.

        Raises ``ValueError`` where the artifact is not what ``build`` wrote, ``AttributeError`` where ``entry`` is gone after import.
        """
        if os.environ.get("TRITON_INTERPRET") == "1":
            from kevolve.languages.triton_interpreter import mend

            mend()
        else:
            _use_kept(artifact)
        module = _module(artifact)
        return Loaded(
            call=getattr(module, entry),
            backward=getattr(module, f"{entry}_backward", None),
            prepare=getattr(module, f"{entry}_prepare", None),
        )

    def ahead(self, arch: str, *, jobs: int, folder: Path) -> AbstractContextManager[Ahead]:
        """Compile launches for ``arch`` in place of launching them. In a worker that holds no device."""
        from kevolve.languages.triton_ahead import Compiler

        return Compiler(arch, jobs=jobs, folder=folder / CACHE)

    def keep(self, artifact: Path, key: str, arch: str, archive: bytes) -> Mapping[str, float]:
        """Keep compiled kernels beside the candidate's own source. Raises ``BuildError`` where the archive is no such thing."""
        path = _kept_path(artifact, key, arch)
        try:
            triton_binaries.keep(archive, path)
        except triton_binaries.BadArchive as error:
            raise BuildError(f"the process that compiled it left no archive of kernels: {error}") from error
        return triton_binaries.summary(triton_binaries.binaries(path, arch))

    def kept(self, artifact: Path, key: str, arch: str) -> Mapping[str, float] | None:
        """What the kernels that are kept under ``key`` need; None where there are none."""
        path = _kept_path(artifact, key, arch)
        return triton_binaries.summary(triton_binaries.binaries(path, arch)) if path.exists() else None

    @property
    def portable(self) -> Sequence[str]:
        """AMD's data centre GPUs, where this Triton has their compiler."""
        found = importlib.util.find_spec("triton")  # not of the backend: that would import Triton
        folders = found.submodule_search_locations or () if found is not None else ()
        return AMD if any((Path(folder) / "backends" / "amd" / "compiler.py").exists() for folder in folders) else ()

    def inspected(self, archive: bytes, arch: str) -> Mapping[str, Mapping[str, float]]:
        """Registers, instructions … of each compiled kernel. Raises ``BuildError`` where the archive is no such thing."""
        try:
            return triton_binaries.inspected(archive, arch)
        except triton_binaries.BadArchive as error:
            raise BuildError(f"the process that compiled it left no archive of kernels: {error}") from error

    def counting(self) -> AbstractContextManager[Counts]:
        """Count what interpreted kernels do. In a worker whose Triton interprets."""
        from kevolve.languages.triton_counts import counting

        return counting()


def _rules(operators: frozenset[str]) -> python_source.Rules:
    def name(dotted: str) -> bool:
        root, _, rest = dotted.partition(".")
        if root in ("math", "typing", "__future__"):
            return True
        if dotted.startswith("triton.language."):
            return rest.split(".")[1] not in FORBIDDEN_TL
        if root == "triton":
            return rest in TRITON_NAMES
        first, _, attribute = rest.partition(".")
        if rest in TORCH_NAMES or (first in DTYPES and attribute in ATTRIBUTES):
            return True
        return any(dotted.startswith(wrapper) and dotted.removeprefix(wrapper).partition(".")[0] in operators for wrapper in WRAPPERS)

    imports = IMPORTS | {"torch.nn.functional"} if operators else IMPORTS
    return python_source.Rules(
        imports=imports,
        name=name,
        attributes=ATTRIBUTES | operators,
        device=DEVICE,
        decorators=DECORATORS,
        constants=CONSTANTS,
        matmul="matmul" in operators,
    )


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _kept_path(artifact: Path, key: str, arch: str) -> Path:
    """Keys are digests: of what was compiled for, and with which toolchain."""
    return artifact.with_name(f"{artifact.stem}.{arch}.{key}.zip")


def _use_kept(artifact: Path) -> None:
    """In a worker: a cache of Triton's own for this process, with what was compiled ahead. No candidate finds another's binaries."""
    scratch = Path.cwd()
    if os.environ.get("TMPDIR") != str(scratch):
        return  # a user's process (``kevolve.load``) has a cache of its user's
    triton_binaries.unpack(sorted(artifact.parent.glob(f"{artifact.stem}.*.zip")), scratch / CACHE)
    os.environ["TRITON_CACHE_DIR"] = str(scratch / CACHE)


def _module(artifact: Path) -> ModuleType:
    """The file run as a module under a private name.

    It is compiled from its text, never read from a ``__pycache__`` that an earlier candidate may have written; the text must
    still be the one that ``build`` named by its hash. Triton finds the functions' source through the code's file name.
    """
    text = artifact.read_text(encoding="utf-8")
    if _digest(text) != artifact.stem:
        raise ValueError(f"{artifact} is not what was built: expected contents with SHA-256 {artifact.stem}, got {_digest(text)}")
    module = ModuleType(f"_kevolve_kernel_{artifact.stem[:16]}")
    module.__file__ = str(artifact)
    sys.modules[module.__name__] = module
    exec(compile(text, str(artifact), "exec"), module.__dict__)
    return module
