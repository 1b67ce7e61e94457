"""The HTTP service. Imports no torch; of the science it knows only `unveil.models.catalog`."""
