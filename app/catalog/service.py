"""The catalog for the API, from `unveil.models.catalog`."""

from __future__ import annotations

from unveil.app.catalog.schemas import AttackOut, PluginOut, SchemeOut
from unveil.app.errors.problem import UnknownAttack, UnknownScheme
from unveil.models import catalog


def list_schemes(width: int, height: int) -> list[SchemeOut]:
    return [get_scheme(name, width, height) for name in catalog.schemes()]


def get_scheme(name: str, width: int, height: int) -> SchemeOut:
    """Raises UnknownScheme."""
    if name not in catalog.schemes():
        raise UnknownScheme(f"unknown scheme {name!r}; choose from {', '.join(catalog.schemes())}")
    return SchemeOut.model_validate(catalog.describe_scheme(name, height, width))


def list_attacks() -> list[AttackOut]:
    return [get_attack(name) for name in catalog.registered_attacks()]


def get_attack(name: str) -> AttackOut:
    """Raises UnknownAttack."""
    if name not in catalog.registered_attacks():
        raise UnknownAttack(f"unknown attack {name!r}; choose from {', '.join(catalog.registered_attacks())}")
    return AttackOut.model_validate(catalog.describe_attack(name))


def list_plugins() -> list[PluginOut]:
    return [PluginOut.model_validate(vars(plugin)) for plugin in catalog.plugins()]
