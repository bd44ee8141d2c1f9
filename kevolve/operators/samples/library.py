"""Every sample there is."""

from __future__ import annotations

from kevolve.operators.samples import (
    attentions,
    convolutions,
    cross_entropies,
    embeddings,
    factorisation,
    feed_forward,
    jagged,
    norms_backward,
    retrieval,
    searches,
    softmaxes,
    transformers,
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
    *feed_forward.SAMPLES,
    *retrieval.SAMPLES,
    *convolutions.SAMPLES,
    *attentions.SAMPLES,
    *transformers.SAMPLES,
)
