"""The science of Unveil: schemes, attacks and metrics. Knows no service, database or queue; usable from a notebook."""

__version__ = "0.1.0"
