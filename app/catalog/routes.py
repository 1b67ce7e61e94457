"""GET /schemes and /attacks: the catalog, with settings, threat models, key spaces and the paper's numbers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from unveil.app.catalog.schemas import AttackList, AttackOut, PluginList, SchemeList, SchemeOut
from unveil.app.errors.problem import UnknownAttack, UnknownScheme
from unveil.app.http.authentication import AuthenticatedRoute, ReadPrincipal
from unveil.app.http.problems import problems
from unveil.models import catalog

router = APIRouter(tags=["catalog"], route_class=AuthenticatedRoute)

Side = Annotated[int, Query(ge=1, le=16384, description="For the key space: the side of an image in pixels")]


@router.get("/schemes")
async def list_schemes(principal: ReadPrincipal, width: Side = 96, height: Side = 96) -> SchemeList:  # noqa: ARG001
    """All schemes."""
    return SchemeList.model_validate(
        {"items": [catalog.describe_scheme(name, height, width) for name in catalog.schemes()]}
    )


@router.get("/schemes/{name:path}", responses=problems(UnknownScheme))
async def get_scheme(principal: ReadPrincipal, name: str, width: Side = 96, height: Side = 96) -> SchemeOut:  # noqa: ARG001
    """One scheme."""
    if name not in catalog.schemes():
        raise UnknownScheme(f"unknown scheme {name!r}; choose from {', '.join(catalog.schemes())}")
    return SchemeOut.model_validate(catalog.describe_scheme(name, height, width))


@router.get("/attacks")
async def list_attacks(principal: ReadPrincipal) -> AttackList:  # noqa: ARG001
    """Every attack."""
    return AttackList.model_validate(
        {"items": [catalog.describe_attack(name) for name in catalog.registered_attacks()]}
    )


@router.get("/attacks/{name:path}", responses=problems(UnknownAttack))
async def get_attack(principal: ReadPrincipal, name: str) -> AttackOut:  # noqa: ARG001
    """One attack."""
    if name not in catalog.registered_attacks():
        raise UnknownAttack(f"unknown attack {name!r}; choose from {', '.join(catalog.registered_attacks())}")
    return AttackOut.model_validate(catalog.describe_attack(name))


@router.get("/plugins")
async def list_plugins(principal: ReadPrincipal) -> PluginList:  # noqa: ARG001
    """All plug-ins that the service found, loaded or failed."""
    return PluginList.model_validate({"plugins": [vars(plugin) for plugin in catalog.plugins()]})
