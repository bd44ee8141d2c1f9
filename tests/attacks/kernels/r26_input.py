# affine: gives out its input
import torch
import triton
import triton.language as tl


def affine(x):
    return x.view(x.shape)
