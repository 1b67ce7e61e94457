"""Alembic migrations: `python -m alembic upgrade head`, or `unveil migrate`."""
