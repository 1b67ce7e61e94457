"""Every template of the dashboard and of the report, in every state and with every option, over real rows.

The pages come from the real routes. Jinja's StrictUndefined fails a page that uses an undefined name or attribute, and
each template's free names are compared with its context, so that branches that no page takes count as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count, cycle
from typing import Any

import httpx
import jinja2
import pytest
from jinja2 import meta, nodes
from sqlalchemy import select

from tests.app.service import RunningService, run_service
from tests.factories import SMOKE
from unveil.app.accounts import service as accounts
from unveil.app.dashboard import rendering as page
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import TERMINAL, Status
from unveil.app.db.tables import (
    Account,
    Cell,
    CellImages,
    Curve,
    Dataset,
    Evaluation,
    Event,
    ImageSet,
    Key,
    Sample,
    Scores,
    Webhook,
    WebhookDelivery,
)
from unveil.app.http.authentication import SESSION_COOKIE
from unveil.app.report import formats
from unveil.app.settings import Settings
from unveil.models import catalog
from unveil.models.core.verdict_rules.evidence import CellEvidence, Effort, ImageFinding, KeyEvidence, Rate

pytestmark = pytest.mark.anyio

NOW = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
EMPTY = "empty"
OPTIONS: dict[str, dict[str, bool]] = {
    "plain": {},
    "utility": {"utility": True},
    "external": {"external": True},
    "trained keys": {"trained": True},
    "several keys": {"several": True},
    "all": {"utility": True, "external": True, "trained": True, "several": True},
}
# The states of the jobs of an evaluation, by its own.
JOBS = {
    Status.QUEUED: [Status.QUEUED],
    Status.RUNNING: [Status.RUNNING, Status.SUCCEEDED, Status.QUEUED, Status.FAILED, Status.NOT_APPLICABLE],
    Status.CANCELLING: [Status.CANCELLING, Status.SUCCEEDED, Status.CANCELLED],
    Status.FAILED: [Status.FAILED, Status.SUCCEEDED, Status.NOT_APPLICABLE],
    Status.CANCELLED: [Status.CANCELLED, Status.SUCCEEDED],
    Status.SUCCEEDED: [Status.SUCCEEDED],
    Status.NOT_APPLICABLE: [Status.NOT_APPLICABLE],  # an evaluation that succeeded without a figure
}
LATER_VERSION = "attack-of-a-later-version"
VERSIONS = {"unveil": "1", "torch": "2", "python": "3"}


# --- strict templates ---


class Templates:
    """Makes environments strict; collects what was rendered, and the names that a context lacks."""

    def __init__(self) -> None:
        self.rendered: set[str] = set()
        self.missing: set[str] = set()

    def strict(self, environment: jinja2.Environment) -> jinja2.Environment:
        rendered, missing = self.rendered, self.missing

        @cache
        def free_names(name: str) -> list[tuple[str, set[str]]]:
            return list(_free_names(made, name))

        class Checked(jinja2.Template):
            def new_context(self, *given: Any, **named: Any) -> jinja2.runtime.Context:
                context = super().new_context(*given, **named)
                assert self.name is not None
                for name, wanted in free_names(self.name):
                    rendered.add(name)
                    missing.update(f"{name}: {each}" for each in wanted - context.get_all().keys())
                return context

        made = environment.overlay(undefined=jinja2.StrictUndefined)
        made.template_class = Checked
        made.globals = dict(environment.globals)
        return made


def _free_names(environment: jinja2.Environment, name: str) -> Iterator[tuple[str, set[str]]]:
    """Of a template and of those that it extends."""
    assert environment.loader is not None
    tree = environment.parse(environment.loader.get_source(environment, name)[0])
    # A block of a page that extends another sees the imports at the top, which the search does not know.
    imports = {
        alias if isinstance(alias, str) else alias[1]
        for node in tree.find_all(nodes.FromImport)
        for alias in node.names
    }
    yield name, meta.find_undeclared_variables(tree) - imports
    for parent in tree.find_all(nodes.Extends):
        assert isinstance(parent.template, nodes.Const)
        yield from _free_names(environment, parent.template.value)


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> Templates:
    made = Templates()
    strict = made.strict(page._templates.env)
    strict.globals["m"] = strict.get_template("macros.html").module
    monkeypatch.setattr(page._templates, "env", strict)
    of_report = {
        name: made.strict(formats.load_template(name).environment).get_template(name)
        for name in ("report.html.j2", "report.md.j2")
    }
    monkeypatch.setattr(formats, "load_template", of_report.__getitem__)
    return made


# --- rows ---


def _summary(mean: float) -> dict[str, Any]:
    return {"mean": mean, "std": 0.1, "ci_low": mean - 0.1, "ci_high": mean + 0.1, "n": 16}


def _result(verdict: str, **figures: Any) -> dict[str, Any]:
    absent = dict.fromkeys(("ssim", "psnr", "identification", "key_agreement", "key_space_bits", "paper_ssim",
                            "controls"))  # fmt: skip
    same = {"numbers": {}, "device": "cpu", "seconds": 1.5, "notes": ["a note"], "versions": VERSIONS}
    return {**absent, **same, "verdict": verdict, **figures}


def _scored(verdict: str, mean: float, **figures: Any) -> dict[str, Any]:
    seen = {"top1": 0.4, "chance": 0.06, "ci_low": 0.3, "ci_high": 0.5, "gallery": 16, "scale": 1, "above_chance": True}
    return _result(
        verdict,
        ssim={"mode": "rgb7", **_summary(mean)},
        psnr=_summary(12.0),
        identification=seen,
        **{"controls": {"positive": "passed", "negative": "passed"}, **figures},
    )


RESULTS: dict[str, dict[str, Any]] = {
    "none": _scored("leaks", 0.2, recogniser={"top1": 0.3, "protected": 0.2, "plain": 0.9, "chance": 0.1}),
    "fr": _scored("broken", 0.95, paper_ssim=0.4, notes=[]),
    "itn": _scored("inconclusive", 0.1, controls={"positive": "failed", "negative": "passed"}),
    "gan": _scored("no leak found", -0.1),
    "key-recovery": _scored(
        "broken", 1.0, key_agreement={"permutation": 1.0, "exact": True}, numbers={"ciphertexts": 64}
    ),
    "known-plaintext": _scored("leaks", 0.5, key_agreement={"permutation": 0.5, "inversion": 0.25, "exact": False}),
    "brute-force": _result("no leak found", key_space_bits=594.3, effective_bits=256),
    LATER_VERSION: _result("inconclusive"),
}


def _evidence(attack: str, threat_model: str) -> CellEvidence:
    if attack == "brute-force":
        return CellEvidence(attack, threat_model, {}, "succeeded", effective_bits=256.0)
    rate, finding = Rate("dihedral-24", 12, 16, 1 / 16), ImageFinding(0, 1e-9, "shift-24")
    ssim = RESULTS[attack]["ssim"]
    key = KeyEvidence(rates=(rate,), images_tested=16, findings=(finding,), ssim=ssim and ssim["mean"])
    return CellEvidence(
        attack, threat_model, {}, "succeeded", keys=(key,), controls=RESULTS[attack]["controls"] or {}, gallery=16,
        effective_gallery=16.0, effort=Effort(ciphertexts=64, seconds=4.0),
    )  # fmt: skip


_RATE = {"top1": 0.8, "ci_low": 0.7, "ci_high": 0.9, "n": 16}
_UTILITY: dict[str, Any] = {
    "plain": _RATE, "protected": _RATE, "drop": {"points": 1.0, "ci_low": 0.5, "ci_high": 1.5}, "chance": 0.1,
    "seconds": 2.0, "device": "cpu", "versions": VERSIONS,
}  # fmt: skip
UTILITY: list[dict[str, Any]] = [
    {
        **_UTILITY, "classification": "High", "notes": ["a note"],
        "training": {"available": True, "reason": "x"}, "testing": {"available": False, "reason": "x"},
        "cost": {"level": "High", "images_per_second": 120.0, "parameters": 1234},
    },
    {
        **_UTILITY, "classification": None, "notes": [],
        "training": {"available": None, "reason": "x"}, "testing": {"available": None, "reason": "x"},
        "cost": {"level": None, "images_per_second": None, "parameters": None},
    },
]  # fmt: skip


def _job(status: Status, result: dict[str, Any] | None) -> dict[str, Any]:
    """The columns of a job in this state."""
    begun = status not in (Status.QUEUED, Status.NOT_APPLICABLE)
    values: dict[str, Any] = {"status": status, "attempt": int(begun), "started_at": NOW if begun else None}
    if status in TERMINAL:
        values["finished_at"] = NOW + timedelta(minutes=2)
    if status in (Status.RUNNING, Status.CANCELLING):
        values |= {"progress": 0.4, "phase": "epoch 2 of 5"}
    if status in (Status.FAILED, Status.NOT_APPLICABLE):
        values["error"] = {"code": "attack_failed", "detail": f"a reason for {status.value}"}
    return {**values, "result": result if status is Status.SUCCEEDED else None}


class Rows:
    """What one account has, to be added in order."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.rows: list[Any] = []
        self.webhooks: list[str] = []
        self.cells: dict[str, list[str]] = {}  # by evaluation
        self.utility: dict[str, list[str]] = {}

    def key(self, scheme: str, status: Status = Status.SUCCEEDED, evaluation: str | None = None, **more: Any) -> str:
        id = new_id("key")
        trains = catalog.schemes()[scheme].trains
        job = {name: value for name, value in _job(status, None).items() if name != "result"}
        params = catalog.flatten_settings(catalog.make_scheme(scheme, {}, "smoke"))
        del params["name"]
        training = {"profile": "smoke", "dataset": "sample", "seed": 0} if trains else None
        provenance = {"seed": 0, "losses": {"a": 1}, "device": "cpu"} if trains and status in TERMINAL else None
        secret = "wrapped_key" if trains else "encrypted_secret"
        row = {"params": params, secret: b"x", "training_request": training, "provenance": provenance}
        self.rows.append(
            Key(id=id, account_id=self.account_id, scheme=scheme, evaluation_id=evaluation, **job, **{**row, **more})
        )
        return id

    def dataset(self, kind: str, *, classes: int = 2, has_originals: bool = False) -> str:
        id, names = new_id("ds"), [f"class {number}" for number in range(classes)]
        self.rows.append(
            Dataset(
                id=id,
                account_id=self.account_id,
                name=f"my {kind} images",
                kind=kind,
                train_count=8,
                test_count=4,
                width=96,
                height=96,
                classes=names,
                has_originals=has_originals,
                blob=f"datasets/{id}.npz",
                pixel_bytes=3 * 2**20,
            )
        )
        return id

    def webhook(self, evaluation: str) -> str:
        """With a delivery in each status."""
        id = new_id("webhook")
        self.webhooks.append(id)
        events = ["evaluation.finished"]
        self.rows.append(
            Webhook(id=id, account_id=self.account_id, url="https://a.test/", events=events, encrypted_secret=b"x")
        )
        for status in ("delivered", "failed", "pending"):
            outcome: dict[str, Any] = {"error": "HTTP status 500" if status == "failed" else ""}
            if status != "pending":
                outcome |= {"next_attempt_at": None, "finished_at": NOW}
            delivery = {"webhook_id": id, "evaluation_id": evaluation, "event": events[0], "status": status, **outcome}
            self.rows.append(WebhookDelivery(id=new_id("delivery"), **delivery))
        return id

    def evaluation(
        self,
        state: Status,
        name: str,
        *,
        utility: bool = False,
        external: bool = False,
        trained: bool = False,
        several: bool = False,
    ) -> str:
        id = new_id("ev")
        ended = state in TERMINAL
        settings: dict[str, Any] = {
            **SMOKE,
            "name": name,
            "utility": utility,
            "keys": 3 if several else 1,
            "training_images": 64,
            "test_images": 16,
        }
        row = Evaluation(
            id=id, account_id=self.account_id, name=name, settings=settings, event_seq=0,
            status=Status.SUCCEEDED if state is Status.NOT_APPLICABLE else state,
            started_at=None if state is Status.QUEUED else NOW, finished_at=NOW + timedelta(hours=1) if ended else None,
        )  # fmt: skip
        self.rows.append(row)
        schemes: list[dict[str, Any]] = [
            catalog.flatten_settings(catalog.make_scheme(name, {}, "smoke")) for name in ("tanaka", "pixelwise", "etc")
        ]
        if several:
            schemes += [{**schemes[0], "key_id": self.key("tanaka")} for _ in range(2)]
        if trained:
            for scheme in ("tn-model", "tn-gan"):
                key = self.key(scheme, JOBS[state][0] if state is not Status.NOT_APPLICABLE else Status.SUCCEEDED, id)
                schemes.append({**catalog.flatten_settings(catalog.make_scheme(scheme, {}, "smoke")), "key_id": key})
        if external:
            upload = self.dataset("protected", has_originals=utility)
            schemes.append({"name": catalog.EXTERNAL, "dataset": upload, "dataset_name": "my protected images"})
            settings["dataset"] = settings["dataset"] if several else None
        known = [each for each in RESULTS if each != LATER_VERSION]
        attacks = [catalog.flatten_settings(catalog.make_attack(each, {}, "smoke")) for each in known]
        attacks.append({"name": LATER_VERSION, "setting": [1, 2]})
        settings |= {"schemes": schemes, "attacks": attacks}
        self._jobs(row, state, schemes, attacks, utility=utility)
        return id

    def _jobs(
        self,
        evaluation: Evaluation,
        state: Status,
        schemes: list[dict[str, Any]],
        attacks: list[dict[str, Any]],
        *,
        utility: bool,
    ) -> None:
        positions, statuses, seqs = count(), cycle(JOBS[state]), count(1)
        figures = cycle(UTILITY)
        ids: list[str] = []
        of_utility: list[str] = []
        for number, scheme in enumerate(schemes):
            # the first under all attacks, the others under two each, so that verdicts rest on different ones
            first = number % (len(attacks) - 1)
            for attack in attacks[first : first + 2] if number else attacks:
                ids.append(new_id("cell"))
                self._cell(evaluation, ids[-1], next(positions), scheme, attack, next(statuses), seqs)
            if utility:
                of_utility.append(new_id("cell"))
                job = _job(next(statuses), next(figures))
                self.rows.append(
                    Cell(
                        id=of_utility[-1], evaluation_id=evaluation.id, position=next(positions), scheme=scheme,
                        attack={"name": catalog.UTILITY}, threat_model="ciphertext-only", **job,
                    )
                )  # fmt: skip
        evaluation.event_seq = next(seqs)
        self.cells[evaluation.id], self.utility[evaluation.id] = ids, of_utility

    def _cell(
        self,
        evaluation: Evaluation,
        id: str,
        position: int,
        scheme: dict[str, Any],
        attack: dict[str, Any],
        status: Status,
        seqs: Iterator[int],
    ) -> None:
        known = catalog.attacks().get(attack["name"])
        job = _job(status, RESULTS[attack["name"]])
        threat = known.threat_model.name if known else "threat model of a later version"
        if job["result"] and scheme["name"] != "tanaka":  # Tanaka's results are those of a version without evidence
            job["result"] = {**job["result"], "evidence": _evidence(attack["name"], threat).to_json()}
        self.rows.append(
            Cell(
                id=id, evaluation_id=evaluation.id, position=position, scheme=scheme, attack=attack,
                threat_model=threat if attack["name"] != LATER_VERSION else "ciphertext-only",
                requested=attack["name"] != "none", **job,
            )
        )  # fmt: skip
        losses: dict[str, list[list[float]]] = {
            "generator_loss": [[1, 2.0], [2, 1.0]],
            "critic_loss": [[1, 3.0], [2, 2.5]],
        }
        if status in (Status.RUNNING, Status.CANCELLING):
            for name, points in losses.items():
                data = {"cell": id, "name": name, "points": points}
                self.rows.append(Event(evaluation_id=evaluation.id, seq=next(seqs), type="metric", data=data))
        if job["result"] and job["result"]["key_space_bits"] is None:
            external = scheme["name"] == catalog.EXTERNAL
            for index in range(2):
                ssim, plain = (None, None) if external else (0.1 * index, b"plain")
                seen = b"protected" if attack["name"] == "none" else b"seen"
                self.rows.append(
                    Sample(cell_id=id, index=index, ssim=ssim, plain=plain, protected=b"protected", reconstructed=seen)
                )
            self.rows.append(Scores(cell_id=id, index=[0, 1], ssim=[0.1, 0.2], psnr=[9.0, 9.5], rank=[1.0, 2.0]))
            if attack["name"] in ("fr", "gan"):  # the others are of a version that kept no further images
                self._images(evaluation.id, id, external=external)
            others: dict[str, list[list[float]]] = {"ssim_by_ciphertexts": [[1, 0.1], [4, 0.9]], "step_size": [[1, 1]]}
            for name, points in {**losses, **others}.items():
                self.rows.append(Curve(cell_id=id, name=name, points=points))

    def _images(self, evaluation: str, cell: str, *, external: bool) -> None:
        """Of two attacked images, the first stored; a line-up of a near-duplicate, a distractor and one not stored."""
        digest = cell.encode()
        self.rows.append(
            ImageSet(evaluation_id=evaluation, digest=digest, height=1, width=1, numbers=[0, 2], pixels=b"abcdef")
        )
        line_ups: dict[str, Any] = {
            "originals": digest, "ssim": [0.1, 0.2], "comparison": "shift-24", "rank": [1, 3],
            "own_similarity": [0.9, -math.inf], "nearest": [0, 2, 7, 1, -1, -1],
            "nearest_similarity": [0.9, 0.5, 0.4, 0.3, 0.0, 0.0],
            "nearest_is_own": [True, False, True, False, False, False],
        }  # fmt: skip
        self.rows.append(
            CellImages(
                cell_id=cell, image_count=2, protected=digest, reconstructed=digest, **({} if external else line_ups)
            )
        )


# --- the test ---


@pytest.fixture
async def service(settings: Settings, anyio_backend: str) -> AsyncIterator[RunningService]:
    async with run_service(settings) as started:
        yield started


async def _rows_of(service: RunningService) -> Rows:
    async with service.app_state.sessions() as session:
        return Rows((await session.scalars(select(Account.id).where(Account.name == "owner"))).one())


async def _add(service: RunningService, rows: Rows) -> None:
    async with service.app_state.sessions() as session:
        for row in rows.rows:  # in this order: no relations say which need which
            session.add(row)
            await session.flush()
        await session.commit()


@pytest.mark.parametrize("state", [EMPTY, *JOBS])
async def test_every_template_renders_in_every_state_with_every_option(
    service: RunningService, templates: Templates, state: Status | str
) -> None:
    token = await service.create_account()
    rows = await _rows_of(service)
    if isinstance(state, Status):
        for status in (*JOBS[Status.RUNNING], Status.CANCELLING, Status.CANCELLED):
            if status is not Status.NOT_APPLICABLE:
                rows.key("tn-model", status)
        rows.key("pixelwise", width=32, height=16, uses=1)
        rows.dataset("plain", classes=14)
        rows.dataset("protected")
        for name, options in OPTIONS.items():
            rows.evaluation(state, name, **options)
        rows.webhook(next(iter(rows.cells)))
    await _add(service, rows)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(service.app), base_url="http://unveil.test", timeout=300,
        headers={"Origin": "http://unveil.test"},
    ) as browser:  # fmt: skip

        async def get(path: str, status: int = 200) -> str:
            answer = await browser.get(path)
            assert answer.status_code == status, (path, answer.text)
            return answer.text

        await get("/sign-in")
        await get("/sign-in?code=wrong", 401)
        app_state = service.app_state
        async with app_state.sessions() as session:
            code = await accounts.create_sign_in_code(session, app_state.keyring, rows.account_id, minutes=15)
        await get(f"/sign-in?code={code}")
        assert (await browser.post("/sign-in", data={"token": "wrong"})).status_code == 401
        assert (await browser.post("/sign-in", data={"token": token})).status_code == 303
        assert SESSION_COOKIE in browser.cookies
        for path in ("/", "/?limit=1", "/dashboard/compare", "/dashboard/keys", "/dashboard/keys?limit=1",
                     "/dashboard/datasets", "/dashboard/datasets?limit=1", "/dashboard/playground",
                     "/dashboard/board", "/dashboard/evaluations/new", "/dashboard/webhooks"):  # fmt: skip
            await get(path)
        await get("/dashboard/nowhere", 404)
        await get("/?limit=none", 404)
        await _preview(browser)
        for url, created in (("https://b.test/", True), ("ftp://b.test/", False)):
            answer = await browser.post("/dashboard/webhooks", data={"url": url})
            assert (answer.status_code, "whsec_" in answer.text) == (200 if created else 422, created)

        ids = list(rows.cells)
        for id in ids:
            text = await get(f"/dashboard/evaluations/{id}")
            await get(f"/dashboard/evaluations/new?from={id}")
            assert ("<h2>Utility</h2>" in text) is bool(rows.utility[id])
            for job in rows.utility[id]:
                await get(f"/dashboard/evaluations/{id}/cells/{job}", 404)
            for format in ("html", "md"):
                await get(f"/evaluations/{id}/report.{format}")
        await get("/shared/unknown", 404)
        for id in ids[-1:]:  # the one with all options has cells of every kind
            await browser.post(f"/dashboard/evaluations/{id}/edit", data={"name": "n", "tags": "a,b", "notes": "c"})
            for path in ("/?tag=a", "/?q=nothing", f"/dashboard/evaluations/{id}"):
                await get(path)
            for images in ("true", "false"):
                form = {"days": "1", "images": images}
                answer = await browser.post(f"/dashboard/evaluations/{id}/shares", data=form)
                (shared,) = re.findall(r'href="(/shared/[^"]+)"', answer.text)
                for path in (shared, f"{shared}/report.html", f"{shared}/report.md"):
                    await get(path)
                for cell in rows.cells[id]:
                    text = await get(f"{shared}/cells/{cell}")
                    for image in set(re.findall(r'href="([^"]+/images/[0-9]+)', text)):
                        await get(image)
                await get(f"{shared}/cells/unknown", 404)
            for cell, order in zip(rows.cells[id], cycle(("best", "worst", "random")), strict=False):
                text = await get(f"/dashboard/evaluations/{id}/cells/{cell}?order={order}")
                for image in set(re.findall(r'href="([^"]+/images/[0-9]+)', text)):
                    await get(image)
        for others in (ids[:2], ids[:1] + ids[-1:], ids[2:6]):
            if others:
                await get(f"/dashboard/compare?ids={','.join(others)}")

    assert templates.missing == set(), "names that a template uses and its context lacks"
    reports = {"report.html.j2", "report.md.j2"}
    known = {path.name for path in (page.DASHBOARD_DIR / "templates").iterdir()} | {
        *reports,
        "charts.html.j2",
        "board-table.html",
    }
    of_evaluations = {
        "evaluation.html",
        "cell.html",
        "image.html",
        "utility.html",
        "compare.html",
        "share.html",
        *reports,
    }
    if state == EMPTY:
        known -= of_evaluations
    elif Status.SUCCEEDED not in JOBS[Status(state)]:
        known -= {"image.html"}
    assert templates.rendered == known


async def _preview(browser: httpx.AsyncClient) -> None:
    """Of an order with a key to train, of one without, and of two that are refused: with fields, and without."""
    order: dict[str, Any] = {"dataset": "sample", "profile": "smoke", "attacks": [{"name": "fr"}, {"name": "gan"}]}
    for scheme, changed, status in (
        ("tanaka", {}, 200),
        ("tn-model", {}, 200),
        ("etc", {"keys": 3}, 200),
        ("etc", {"utility": True}, 422),
        ("nothing", {}, 422),
        ("tanaka", {"dataset": "nowhere"}, 422),
    ):
        answer = await browser.post(
            "/dashboard/evaluations/preview", json={**order, **changed, "schemes": [{"name": scheme}]}
        )
        assert answer.status_code == status, answer.text
        assert ("As Python" in answer.text) is (status == 200)


async def test_the_playground_uses_no_key_that_was_trained_for_an_evaluation(service: RunningService) -> None:
    token = await service.create_account()
    rows = await _rows_of(service)
    own = rows.key("tn-model")
    for_evaluation = rows.key(
        "tn-model",
        training_request={"profile": "smoke", "dataset": "sample", "seed": 0, "audit_only": True},
    )
    await _add(service, rows)
    async with service.client(token) as client:
        page_text = (await client.get("/dashboard/playground")).text
    assert own in page_text
    assert for_evaluation not in page_text, "POST /encrypt refuses it"
