"""Exact attacks on keyed schemes: arrays in, keys out. NumPy and SciPy; no torch, no registry, no plain image."""
