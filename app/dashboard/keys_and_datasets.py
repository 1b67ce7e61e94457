"""Pages of the keys and datasets of an account."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from unveil.app.dashboard import queries
from unveil.app.dashboard.rendering import PageRoute, redirect, render_page
from unveil.app.datasets import service as datasets
from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.encryption.service import call_worker
from unveil.app.errors.problem import Invalid, NotFound
from unveil.app.evaluations.queries import is_attack_worker_live
from unveil.app.evaluations.serializers import waiting_for_worker
from unveil.app.http.authentication import AuthenticatedRoute, EvaluatePrincipal, KeysPrincipal, ReadPrincipal
from unveil.app.http.pagination import DatasetPaging, KeyPaging, PageRequest
from unveil.app.jobs.dispatch import dispatch
from unveil.app.keys import service as keys
from unveil.app.keys.schemas import KeyCreate
from unveil.app.rpc.messages import PngReply, ThumbnailsRequest
from unveil.models import catalog

page_router = APIRouter(route_class=PageRoute)
api_router = APIRouter(route_class=AuthenticatedRoute)

_CACHE_ONE_HOUR = {"Cache-Control": "private, max-age=3600"}


@page_router.get("/dashboard/keys")
async def show_keys(
    request: Request, principal: KeysPrincipal, app_state: AppStateDep, session: Session, paging: KeyPaging
) -> Response:
    key_page = await keys.list_keys(session, principal, paging)
    all_datasets = (await datasets.list_page(session, principal, app_state.settings, PageRequest(200, None))).items
    trained = [name for name, scheme in catalog.schemes().items() if scheme.trains]
    plain = [dataset for dataset in all_datasets if dataset.kind == "plain"]
    return render_page(
        request,
        "keys.html",
        principal,
        keys=key_page.items,
        next=key_page.next,
        drawn=_drawable_variants(),
        trained=trained,
        datasets=plain,
        profiles=catalog.PROFILES,
        waits=waiting_for_worker(await is_attack_worker_live(session)),
    )


@page_router.post("/dashboard/keys")
async def create_key(
    principal: KeysPrincipal, app_state: AppStateDep, session: Session, entry: Annotated[int, Form(ge=0, lt=1000)]
) -> Response:
    """`entry`: which of the schemes that the form lists."""
    variants = _drawable_variants()
    if entry >= len(variants):
        raise Invalid("the scheme is not in the list", [("/entry", f"must be below {len(variants)}")])
    params = variants[entry]
    key = await keys.create(
        session, app_state, principal, KeyCreate(scheme=params.pop("name"), params=params), new_id("key")
    )
    await session.commit()
    return redirect(f"/dashboard/keys#{key.id}")


def _drawable_variants() -> list[dict[str, Any]]:
    """Every variant of every scheme whose keys are drawn, as an entry of a request."""
    return [
        {"name": name, **variant["params"]}
        for name, scheme in catalog.schemes().items()
        if not scheme.trains
        for variant in catalog.describe_scheme(name)["variants"]
    ]


@page_router.post("/dashboard/keys/train")
async def train_key(
    principal: KeysPrincipal,
    app_state: AppStateDep,
    session: Session,
    scheme: Annotated[str, Form(max_length=64)],
    dataset: Annotated[str, Form(max_length=200)],
    profile: Annotated[str, Form(max_length=20)],
    seed: Annotated[int | None, Form()] = None,
) -> Response:
    body = KeyCreate(scheme=scheme, params={"dataset": dataset, "profile": profile, "seed": seed})
    key = await keys.create(session, app_state, principal, body, new_id("key"))
    await session.commit()
    await dispatch(app_state, 1)
    return redirect(f"/dashboard/keys#{key.id}")


@page_router.post("/dashboard/keys/{id}/destroy")
async def destroy_key(id: str, principal: KeysPrincipal, app_state: AppStateDep, session: Session) -> Response:
    await keys.destroy(session, app_state, principal, id)
    return redirect("/dashboard/keys")


@page_router.post("/dashboard/keys/{id}/cancel")
async def cancel_key(id: str, principal: KeysPrincipal, session: Session) -> Response:
    await keys.cancel(session, principal, id)
    return redirect(f"/dashboard/keys#{id}")


@page_router.get("/dashboard/datasets")
async def show_datasets(
    request: Request, principal: ReadPrincipal, app_state: AppStateDep, session: Session, paging: DatasetPaging
) -> Response:
    dataset_page = await datasets.list_page(session, principal, app_state.settings, paging)
    evaluation_counts = await queries.count_evaluations_by_dataset(
        session, principal.account_id, [dataset.id for dataset in dataset_page.items]
    )
    return render_page(
        request, "datasets.html", principal, datasets=dataset_page.items, used=evaluation_counts, next=dataset_page.next
    )


@api_router.get("/dashboard/datasets/{id}/strip.png")
async def show_thumbnails(id: str, principal: ReadPrincipal, app_state: AppStateDep, session: Session) -> Response:
    """Some of its images side by side. A worker cuts them: only workers read images."""
    dataset = await datasets.get(session, principal, app_state.settings, id)
    if not dataset.available:
        raise NotFound(f"the images of {id} have not been downloaded yet")
    await session.rollback()  # the worker's answer is waited for without a database connection
    reply = await call_worker(app_state, ThumbnailsRequest(account_id=principal.account_id, dataset=id), PngReply)
    return Response(reply.png, media_type="image/png", headers=_CACHE_ONE_HOUR)


@page_router.post("/dashboard/datasets/{id}/delete")
async def delete_dataset(id: str, principal: EvaluatePrincipal, app_state: AppStateDep, session: Session) -> Response:
    await datasets.delete(app_state, session, principal, id)
    return redirect("/dashboard/datasets")
