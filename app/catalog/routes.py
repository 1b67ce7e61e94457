"""GET /schemes and /attacks: what can be ordered, with settings, threat models, key spaces and the paper's numbers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from unveil.app.catalog import service
from unveil.app.catalog.schemas import AttackList, AttackOut, SchemeList, SchemeOut
from unveil.app.http.authentication import CallerFirst, Reader
from unveil.app.http.problems import problems

router = APIRouter(tags=["catalog"], route_class=CallerFirst)

Side = Annotated[int, Query(ge=1, le=16384, description="For the key space: the side of an image in pixels")]


@router.get("/schemes")
async def list_schemes(caller: Reader, width: Side = 96, height: Side = 96) -> SchemeList:  # noqa: ARG001
    """Every protection scheme."""
    return SchemeList(items=service.list_schemes(width, height))


@router.get("/schemes/{name}", responses=problems(service.UnknownScheme))
async def show_scheme(caller: Reader, name: str, width: Side = 96, height: Side = 96) -> SchemeOut:  # noqa: ARG001
    """One protection scheme."""
    return service.show_scheme(name, width, height)


@router.get("/attacks")
async def list_attacks(caller: Reader) -> AttackList:  # noqa: ARG001
    """Every attack."""
    return AttackList(items=service.list_attacks())


@router.get("/attacks/{name}", responses=problems(service.UnknownAttack))
async def show_attack(caller: Reader, name: str) -> AttackOut:  # noqa: ARG001
    """One attack."""
    return service.show_attack(name)
