"""The Celery side: takes jobs by their rows and runs the science on them."""
