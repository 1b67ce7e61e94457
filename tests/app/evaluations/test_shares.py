"""Links with which everybody can read one evaluation and nothing else."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import select, text, update

from tests.app.evaluations.conftest import create_evaluation
from unveil.app.db.tables import Account, Share
from unveil.app.security.rate_limiter import RateLimiter

SMALL = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "keys": 1}


@pytest.fixture
def reader(service):
    """A person without an account."""
    with httpx.Client(base_url=service.url, timeout=300) as client:
        yield client


@pytest.fixture
def finished(client, run_cells):
    """An evaluation of a key of the account's own, which has an id."""
    key = client.post("/keys", json={"scheme": "tanaka"}).json()["id"]
    body = create_evaluation(client, **{**SMALL, "schemes": [{"name": "tanaka", "key_id": key}], "name": "<b>shared"})
    run_cells(body)
    return client.get(body["links"]["self"]).json()


def share(client, evaluation, **body):
    answer = client.post(f"{evaluation['links']['self']}/shares", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


_FURTHER_IMAGES = re.compile(r"/(?:images|samples|gallery)/(?!0\b)\d+")  # like the first, and too many for a test


def addresses(reader, url):
    """Every address of the service in the pages behind a link; of the images, those of the first."""
    found, todo = set(), {url}
    while todo:
        address = todo.pop()
        found.add(address)
        answer = reader.get(address)
        assert answer.status_code == 200, address
        if answer.headers["Content-Type"].startswith("text/html"):
            links = re.findall(r'(?:href|src|action)="(/[^"#?]*)', answer.text)
            own = {link for link in links if link.startswith("/shared/") and not _FURTHER_IMAGES.search(link)}
            todo |= own - found
            assert all(link == "/" or link.startswith(("/shared/", "/static/")) for link in links), links
    return found


def test_a_reader_sees_the_evaluation_and_no_other_id(client, reader, finished):
    client.patch(finished["links"]["self"], json={"tags": ["t"], "notes": "<i>note"})
    url = share(client, finished)["url"]
    cell = finished["cells"][0]
    base = f"{url}/cells/{cell['id']}"
    read = addresses(reader, url) | addresses(reader, f"{base}/images/0")  # not always on the first page of images
    assert {url, base, f"{base}/curve", f"{base}/scores.csv", f"{url}/report.html", f"{url}/report.zip"} <= read
    assert {f"{base}/samples/0/{name}.png" for name in ("plain", "protected", "reconstructed")} <= read
    assert {f"{base}/images/0", f"{base}/gallery/0.png"} <= read
    own = {finished["id"], *(each["id"] for each in finished["cells"])}
    for address in read:
        answer = reader.get(address)
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
        contents = [answer.content]
        if address.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                contents = [archive.read(name) for name in archive.namelist()]
        for content in contents:
            assert set(re.findall(r"\b[a-z]+_[0-9a-f]{32}\b", content.decode("latin-1"))) <= own, address
            if "report" in address:
                assert url.rpartition("/")[2].encode() not in content, "a report may be passed on without the link"
    page = reader.get(url).text
    assert "&lt;b&gt;shared" in page
    assert "&lt;i&gt;note" in page
    assert "<form" not in page


def test_a_link_leads_nowhere_else(client, sign_in, reader, finished):
    other = create_evaluation(client, **SMALL)
    url = share(client, finished)["url"]
    cell, own_cell = other["cells"][0]["id"], finished["cells"][0]["id"]
    for path in (f"/cells/{cell}", f"/cells/{cell}/curve", f"/cells/{cell}/scores.csv", "/events", "/cells"):
        assert reader.get(url + path).status_code == 404, path
    for path in ("samples/0/plain.png", "gallery/0.png", "images/0"):
        assert reader.get(f"{url}/cells/{cell}/{path}").status_code == 404
    secret = url.rpartition("/")[2]
    for headers in ({"Authorization": f"Bearer {secret}"}, {"Cookie": f"unveil_session={secret}"}):
        assert reader.get("/evaluations", headers=headers).status_code == 401
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("", "/edit", f"/cells/{own_cell}"):
            assert reader.request(method, url + path).status_code in (404, 405), (method, path)
    for path in ("/shared", "/shared/", "/shared/x", f"/shared/{'x' * 101}", "/shared/%00", f"{url[:-1]}"):
        assert reader.get(path).status_code == 404, path


def test_a_link_without_images_shows_none(client, reader, finished):
    url = share(client, finished, images=False)["url"]
    read = addresses(reader, url)
    assert not [address for address in read if re.search("/(samples|images|gallery)/", address)]
    base = f"{url}/cells/{finished['cells'][0]['id']}"
    for path in ("samples/0/reconstructed.png", "gallery/0.png", "images/0"):
        assert reader.get(f"{base}/{path}").status_code == 404
    assert "data:image/png" not in reader.get(f"{url}/report.html", params={"images": "true"}).text
    with zipfile.ZipFile(io.BytesIO(reader.get(f"{url}/report.zip").content)) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".png")]


def test_a_link_ends_when_it_is_revoked_or_expires_or_its_account_ends(client, runtime, reader, finished):
    here = f"{finished['links']['self']}/shares"
    revoked, expired, kept = (share(client, finished, expires_in_days=days) for days in (1, 2, 3))
    assert [item["id"] for item in client.get(here).json()["items"]] == [
        each["id"] for each in (kept, expired, revoked)
    ]
    assert kept["url"].rpartition("/")[2] not in client.get(here).text
    with runtime.sessions.begin() as session:
        assert kept["url"].rpartition("/")[2].encode() not in session.scalars(select(Share.hash)).all()
        past = text("clock_timestamp() - interval '1 second'")
        session.execute(update(Share).where(Share.id == expired["id"]).values(expires_at=past))
    assert client.delete(f"{here}/{revoked['id']}").status_code == 204
    assert client.delete(f"{here}/{revoked['id']}").status_code == 404
    assert [reader.get(each["url"]).status_code for each in (revoked, expired, kept)] == [404, 404, 200]
    assert [item["id"] for item in client.get(here).json()["items"]] == [kept["id"]]
    with runtime.sessions.begin() as session:
        session.execute(update(Account).values(revoked_at=text("clock_timestamp()")))
    assert reader.get(kept["url"]).status_code == 404


def test_links_are_made_listed_and_revoked_by_their_account_alone(client, sign_in, reader, finished):
    here = f"{finished['links']['self']}/shares"
    made = share(client, finished)
    stranger, watcher = sign_in("stranger"), sign_in("watcher", ["read"])
    for other in (stranger, watcher, reader):
        expected = {stranger: 404, watcher: 403, reader: 401}[other]
        assert other.post(here, json={}).status_code == expected
        assert other.delete(f"{here}/{made['id']}").status_code == expected
    assert stranger.get(here).status_code == 404
    own = create_evaluation(stranger, **SMALL)["links"]["self"]
    assert stranger.delete(f"{own}/shares/{made['id']}").status_code == 404
    assert reader.get(made["url"]).status_code == 200
    for body in ({"expires_in_days": 0}, {"expires_in_days": 366}, {"images": "no"}, {"days": 1}):
        assert client.post(here, json=body).status_code == 422
    again = [client.post(here, json={}, headers={"Idempotency-Key": "k"}).json()["url"] for _ in range(2)]
    assert again[0] == again[1]


def test_guesses_count_against_an_address_and_reads_against_the_link(client, service, reader, finished):
    url = share(client, finished)["url"]
    settings = service.app.state.app_state.settings
    slow = settings.model_copy(update={"anonymous_requests_per_second": 0.01, "requests_per_second": 1000.0})
    limiter = RateLimiter(service.app.state.app_state.redis)
    service.app.state.app_state = replace(service.app.state.app_state, settings=slow, rate_limiter=limiter)
    assert {reader.get("/shared/guess").status_code for _ in range(5)} >= {429}
    assert {reader.get(url).status_code for _ in range(3)} == {200}
