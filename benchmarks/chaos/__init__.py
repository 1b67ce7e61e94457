"""`make chaos`: faults made on purpose, on real processes and servers; nothing may be lost. One fault a file.

python -m benchmarks.chaos [--only NAME ...] [--json FILE]
"""
