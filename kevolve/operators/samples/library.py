"""Every sample there is."""

from __future__ import annotations

from kevolve.operators.samples import (
    attentions,
    convolutions,
    cross_entropies,
    embeddings,
    factorisation,
    gated,
    jagged,
    norms,
    norms_backward,
    reductions,
    searches,
    softmaxes,
    transformers,
)
from kevolve.operators.samples.sample import Sample

SAMPLES: tuple[Sample, ...] = (
    *norms.SAMPLES,
    *norms_backward.SAMPLES,
    *softmaxes.SAMPLES,
    *cross_entropies.SAMPLES,
    *gated.SAMPLES,
    *reductions.SAMPLES,
    *searches.SAMPLES,
    *jagged.SAMPLES,
    *embeddings.SAMPLES,
    *factorisation.SAMPLES,
    *convolutions.SAMPLES,
    *attentions.SAMPLES,
    *transformers.SAMPLES,
)
