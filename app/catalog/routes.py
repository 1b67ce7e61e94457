"""GET /schemes and /attacks: the catalog, with settings, threat models, key spaces and the paper's numbers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from unveil.app.catalog import service
from unveil.app.catalog.schemas import AttackList, AttackOut, PluginList, SchemeList, SchemeOut
from unveil.app.errors.problem import UnknownAttack, UnknownScheme
from unveil.app.http.authentication import AuthenticatedRoute, ReadPrincipal
from unveil.app.http.problems import problems

router = APIRouter(tags=["catalog"], route_class=AuthenticatedRoute)

Side = Annotated[int, Query(ge=1, le=16384, description="For the key space: the side of an image in pixels")]


@router.get("/schemes")
async def list_schemes(principal: ReadPrincipal, width: Side = 96, height: Side = 96) -> SchemeList:  # noqa: ARG001
    """All schemes."""
    return SchemeList(items=service.list_schemes(width, height))


@router.get("/schemes/{name:path}", responses=problems(UnknownScheme))
async def get_scheme(principal: ReadPrincipal, name: str, width: Side = 96, height: Side = 96) -> SchemeOut:  # noqa: ARG001
    """One scheme."""
    return service.get_scheme(name, width, height)


@router.get("/attacks")
async def list_attacks(principal: ReadPrincipal) -> AttackList:  # noqa: ARG001
    """Every attack."""
    return AttackList(items=service.list_attacks())


@router.get("/attacks/{name:path}", responses=problems(UnknownAttack))
async def get_attack(principal: ReadPrincipal, name: str) -> AttackOut:  # noqa: ARG001
    """One attack."""
    return service.get_attack(name)


@router.get("/plugins")
async def list_plugins(principal: ReadPrincipal) -> PluginList:  # noqa: ARG001
    """All plug-ins that the service found, loaded or failed."""
    return PluginList(plugins=service.list_plugins())
