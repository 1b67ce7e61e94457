"""Pages of what an account keeps: keys and data sets."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from unveil.app.broker import TRAIN_KEY, Parcel
from unveil.app.dashboard import queries
from unveil.app.dashboard.rendering import PageRoute, page, redirect
from unveil.app.datasets import service as datasets
from unveil.app.db.ids import new_id
from unveil.app.dependencies import Session, Svc
from unveil.app.encryption.service import hand_over
from unveil.app.errors.problem import Invalid, NotFound
from unveil.app.http.authentication import Auditor, CallerFirst, KeyKeeper, Reader
from unveil.app.http.pagination import DatasetPaging, KeyPaging, PageRequest
from unveil.app.jobs.dispatch import ring
from unveil.app.keys import service as keys
from unveil.app.keys.schemas import KeyOrder
from unveil.models import catalog

router = APIRouter(route_class=PageRoute)
calls = APIRouter(route_class=CallerFirst)

_HOUR = {"Cache-Control": "private, max-age=3600"}


@router.get("/dashboard/keys")
async def show_keys(request: Request, caller: KeyKeeper, svc: Svc, session: Session, paging: KeyPaging) -> Response:
    shown = await keys.list_keys(session, caller, paging)
    known = (await datasets.list_page(session, caller, svc.settings, PageRequest(200, None))).items
    trained = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    plain = [dataset for dataset in known if dataset.kind == "plain"]
    return page(
        request, "keys.html", caller, keys=shown.items, next=shown.next, drawn=_drawn(), trained=trained,
        datasets=plain, profiles=catalog.PROFILES,
    )  # fmt: skip


@router.post("/dashboard/keys")
async def draw_key(
    caller: KeyKeeper, svc: Svc, session: Session, entry: Annotated[int, Form(ge=0, lt=1000)]
) -> Response:
    """`entry`: which of the schemes that the form lists."""
    drawn = _drawn()
    if entry >= len(drawn):
        raise Invalid("there is no such scheme in the list", [("/entry", f"must be below {len(drawn)}")])
    params = drawn[entry]
    made = await keys.create(session, svc, caller, KeyOrder(scheme=params.pop("name"), params=params), new_id("key"))
    await session.commit()
    return redirect(f"/dashboard/keys#{made.id}")


def _drawn() -> list[dict[str, Any]]:
    """Every variant of every scheme whose keys are drawn, as an order names it."""
    return [
        {"name": name, **variant["params"]}
        for name, scheme in catalog.schemes().items()
        if not scheme.trains
        for variant in catalog.describe_scheme(name)["variants"]
    ]


@router.post("/dashboard/keys/train")
async def train_key(
    caller: KeyKeeper,
    svc: Svc,
    session: Session,
    scheme: Annotated[str, Form(max_length=64)],
    dataset: Annotated[str, Form(max_length=200)],
    profile: Annotated[str, Form(max_length=20)],
    seed: Annotated[int | None, Form()] = None,
) -> Response:
    order = KeyOrder(scheme=scheme, params={"dataset": dataset, "profile": profile, "seed": seed})
    made = await keys.create(session, svc, caller, order, new_id("key"))
    await session.commit()
    await ring(svc, TRAIN_KEY, made.id)
    return redirect(f"/dashboard/keys#{made.id}")


@router.post("/dashboard/keys/{id}/destroy")
async def destroy_key(id: str, caller: KeyKeeper, svc: Svc, session: Session) -> Response:
    await keys.destroy(session, svc, caller, id)
    return redirect("/dashboard/keys")


@router.post("/dashboard/keys/{id}/cancel")
async def cancel_key(id: str, caller: KeyKeeper, session: Session) -> Response:
    await keys.cancel(session, caller, id)
    return redirect(f"/dashboard/keys#{id}")


@router.get("/dashboard/datasets")
async def show_datasets(
    request: Request, caller: Reader, svc: Svc, session: Session, paging: DatasetPaging
) -> Response:
    shown = await datasets.list_page(session, caller, svc.settings, paging)
    used = await queries.evaluations_of(session, caller.account_id, [dataset.id for dataset in shown.items])
    return page(request, "datasets.html", caller, datasets=shown.items, used=used, next=shown.next)


@calls.get("/dashboard/datasets/{id}/strip.png")
async def show_strip(id: str, caller: Reader, svc: Svc, session: Session) -> Response:
    """Some of its images side by side. A worker cuts them: only workers read images."""
    dataset = await datasets.show(session, caller, svc.settings, id)
    if not dataset.available:
        raise NotFound(f"the images of {id} have not been downloaded yet")
    await session.rollback()  # the worker's answer is waited for without a database connection
    answer = await hand_over(svc, caller, Parcel({"op": "strip", "account": caller.account_id, "dataset": id}))
    return Response(answer.parts[0], media_type="image/png", headers=_HOUR)


@router.post("/dashboard/datasets/{id}/delete")
async def delete_dataset(id: str, caller: Auditor, svc: Svc, session: Session) -> Response:
    await datasets.remove(svc, session, caller, id)
    return redirect("/dashboard/datasets")
