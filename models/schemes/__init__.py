"""Protection schemes, one file each. `models.catalog` finds them here."""
