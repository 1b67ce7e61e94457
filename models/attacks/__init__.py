"""Attacks, one file each; `unveil.models.catalog` registers all of them."""
