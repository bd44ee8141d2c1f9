"""The words that front matter and diagnoses share."""

from __future__ import annotations

BOTTLENECKS = (
    "memory",
    "compute",
    "latency",
    "launch",
    "occupancy",
    "registers",
    "shared-memory",
    "divergence",
    "synchronisation",
    "precision",
    "correctness",
    "compile",
    "timeout",
    "policy",
)
FAMILIES = (
    "pointwise",
    "reduction",
    "scan",
    "matmul",
    "attention",
    "convolution",
    "jagged",
    "search",
    "quantisation",
    "embedding",
    "normalisation",
    "gather-scatter",
    "general",
)
PHASES = ("draft", "debug", "optimise")
TOPICS = ("constraints", "debugging", "optimisation", "hardware", "language", "sample", "skill")
KINDS = ("constraints", "guidance", "hardware", "languages", "samples", "skills")
EVIDENCE = ("sample", "measured")
ANY = "any"
VENDORS = ("nvidia", "amd", "x86", "mtia")
# What our documents tell apart, by vendor; an architecture is also admitted by a document of its generation (`scope.generation`).
ARCHITECTURES = {
    "nvidia": ("sm80", "sm90", "sm100"),
    "amd": ("gfx942", "gfx950"),
    "x86": ("avx2", "avx512", "amx"),
    "mtia": ("mtia2i",),
}
