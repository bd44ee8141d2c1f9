"""The references, by family: plain PyTorch that reads like the formula."""
