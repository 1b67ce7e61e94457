"""Key recovery algorithms: ciphertexts, pairs or an oracle in, keys out. NumPy and SciPy only."""
