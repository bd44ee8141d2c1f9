"""References in plain PyTorch: each reads like its formula and says nothing about speed."""
