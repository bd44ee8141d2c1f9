"""Matrix products small enough for one kernel, with what stands before and after them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LORA_SCALE = 2.0


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer and GELU by tanh.

    ``x``: floating [rows, inputs]. ``weight``: the same dtype [outputs, inputs]. ``bias``: [outputs].
    Returns the dtype of x [rows, outputs]. Source: the MLP of GPT-2; Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2.
    """
    return functional.gelu(functional.linear(x, weight, bias), approximate="tanh")


def lora_linear(base: Tensor, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Add an adapter of low rank to a layer's output.

    ``base``: floating [rows, outputs]. ``x``: the same dtype [rows, inputs]. ``down``: [rank, inputs]. ``up``: [outputs, rank].
    Returns the dtype of base [rows, outputs]. Source: Hu et al. 2021, arXiv 2106.09685, equation 3.
    """
    return base + LORA_SCALE * ((x @ down.T) @ up.T)


def int8_linear(x: Tensor, weight: Tensor, row_scale: Tensor, column_scale: Tensor, bias: Tensor) -> Tensor:
    """A linear layer on 8-bit values, scaled back by row and by column.

    ``x``: int8 [rows, inputs]. ``weight``: int8 [outputs, inputs]. ``row_scale``: float32 [rows]. ``column_scale``, ``bias``: float32
    [outputs]. Returns float32 [rows, outputs]. Source: Dettmers et al. 2022, arXiv 2208.07339, equation 5.
    """
    product = x.float() @ weight.float().T
    return product * row_scale[:, None] * column_scale + bias


def vector_quantise(x: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest code of each vector and the squared distance to it.

    ``x``: float32 [rows, dim]. ``codebook``: float32 [codes, dim]. Returns int64 [rows] and float32 [rows].
    Source: van den Oord, Vinyals and Kavukcuoglu 2017, arXiv 1711.00937, equation 2.
    """
    distance, code = squared_distances(x, codebook).min(-1)
    return code, distance


def squared_distances(x: Tensor, codebook: Tensor) -> Tensor:
    """Of every vector to every code, float32 [rows, codes]."""
    return x.square().sum(-1, keepdim=True) - 2 * x @ codebook.T + codebook.square().sum(-1)


def dot_interaction(dense: Tensor, sparse: Tensor) -> Tensor:
    """The dot products of every two of a sample's feature vectors, behind the dense one.

    ``dense``: floating [batch, dim]. ``sparse``: the same dtype [batch, features, dim]. Returns the dtype of dense
    [batch, dim + pairs], pairs = (features + 1) * features / 2. Source: DLRM, Naumov et al. 2019, arXiv 1906.00091, section 2.2.
    """
    vectors = torch.cat((dense[:, None], sparse), dim=1)
    products = torch.bmm(vectors, vectors.transpose(1, 2))
    row, column = torch.tril_indices(vectors.shape[1], vectors.shape[1], offset=-1, device=dense.device)
    return torch.cat((dense, products[:, row, column]), dim=1)
