"""Every sample there is."""

from __future__ import annotations

from kevolve.operators.samples import (
    convolutions,
    cross_entropies,
    embeddings,
    factorisation,
    jagged,
    norms_backward,
    searches,
    softmaxes,
)
from kevolve.operators.samples.sample import Sample

SAMPLES: tuple[Sample, ...] = (
    *norms_backward.SAMPLES,
    *softmaxes.SAMPLES,
    *cross_entropies.SAMPLES,
    *searches.SAMPLES,
    *jagged.SAMPLES,
    *embeddings.SAMPLES,
    *factorisation.SAMPLES,
    *convolutions.SAMPLES,
)
