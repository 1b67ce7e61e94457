"""Attacks, one file each. `unveil.models.catalog` finds them here."""
