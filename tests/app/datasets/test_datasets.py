"""/datasets on the running service: built-in sets, uploads through a real worker, owners, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.damaged_arrays import DAMAGED
from tests.sample_images import archive, classes
from unveil.app.local.stack import LocalStack


@pytest.fixture
def http(stack: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=300) as made:
        yield made


@pytest.fixture
def other_token(http: httpx.Client) -> str:
    """The token of another account."""
    order = {"name": f"stranger {uuid4().hex}", "scopes": ["read", "evaluate"]}
    return http.post("/accounts", json=order).json()["token"]


def upload(http: httpx.Client, members: dict[str, bytes] | bytes, key: str | None = None, **fields) -> httpx.Response:
    data = members if isinstance(members, bytes) else archive(members)
    files = {"archive": ("set.zip", data, "application/zip")}
    if originals := fields.pop("originals", None):
        files["originals"] = ("plain.zip", archive(originals), "application/zip")
    headers = {} if key is None else {"Idempotency-Key": key}
    return http.post("/datasets", data={"name": "mine", **fields}, files=files, headers=headers)


def list_stored_blobs(stack: LocalStack) -> set[str]:
    blobs = stack.state / "blobs"
    return {str(path.relative_to(blobs)) for folder in ("uploads", "datasets") for path in (blobs / folder).glob("*")}


def test_built_in_sets_are_listed_with_where_their_files_go(http: httpx.Client) -> None:
    listed = {item["id"]: item for item in http.get("/datasets").json()["items"]}
    assert listed["sample"]["available"]
    assert listed["sample"]["train"] == 400
    assert not listed["stl10"]["available"]
    assert "stl10_binary" in listed["stl10"]["note"]
    assert http.get("/datasets/sample").json() == listed["sample"]


def test_a_folder_of_the_operator_appears_by_its_name(stack: LocalStack, http: httpx.Client) -> None:
    folder = stack.state / "data" / "of-the-operator"
    for name, data in classes(5).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = http.get(f"/datasets/{folder.name}").json()
    shutil.rmtree(folder)
    assert (found["train"], found["test"], found["classes"]) == (8, 2, ["a", "b"])


def test_an_upload_is_unpacked_and_belongs_to_its_account(
    http: httpx.Client, stack: LocalStack, other_token: str
) -> None:
    answer = upload(http, {**classes(4, "train/"), **classes(2, "test/")}, size="16")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert {name: made[name] for name in ("name", "kind", "train", "test", "width", "height", "classes")} == {
        "name": "mine", "kind": "plain", "train": 8, "test": 4, "width": 16, "height": 16, "classes": ["a", "b"],
    }  # fmt: skip
    address = answer.headers["Location"]
    assert http.get(address).json() == made
    assert made in http.get("/datasets").json()["items"]
    other = {"Authorization": f"Bearer {other_token}"}
    assert http.get(address, headers=other).status_code == 404
    assert http.delete(address, headers=other).status_code == 404
    assert f"datasets/{made['id']}.npz" in list_stored_blobs(stack)
    assert http.delete(address).status_code == 204
    assert http.get(address).status_code == 404
    assert not any(made["id"] in name for name in list_stored_blobs(stack))


def test_protected_images_with_their_originals(http: httpx.Client) -> None:
    made = upload(http, classes(5), kind="protected", originals=classes(5)).json()
    assert (made["kind"], made["has_originals"], made["width"]) == ("protected", True, 24)


@pytest.mark.parametrize(
    ("members", "fields", "status", "code", "pointer"),
    [
        ({}, {}, 422, "bad_archive", "/archive"),
        (b"no zip", {}, 422, "bad_archive", "/archive"),
        ({**classes(5), "../x.png": b"x"}, {}, 422, "bad_archive", "/archive"),
        ({**classes(5), "a/note.txt": b"hello"}, {}, 422, "bad_archive", "/archive"),
        ({**classes(5), "a/inner.zip": archive(classes(1))}, {}, 422, "bad_archive", "/archive"),
        ({**classes(5), "a/bomb.png": bytes(8 * 2**20)}, {}, 413, "archive_too_large", "/archive"),
        (classes(5), {"originals": classes(5)}, 422, "originals_not_taken", "/originals"),
        (classes(5), {"originals": classes(4), "kind": "protected"}, 422, "bad_archive", "/originals"),
        (classes(5), {"size": "4"}, 422, "invalid_request", "/size"),
        (classes(5), {"kind": "secret"}, 422, "invalid_request", "/kind"),
        (classes(5), {"name": ""}, 422, "invalid_request", "/name"),
        (classes(5), {"name": "a\x00b"}, 422, "invalid_request", "/name"),
    ],
)
def test_what_is_refused_names_its_field_and_leaves_nothing(
    http: httpx.Client, stack: LocalStack, members, fields, status: int, code: str, pointer: str
) -> None:
    before = list_stored_blobs(stack)
    answer = upload(http, members, **fields)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert list_stored_blobs(stack) == before


def test_every_damaged_numpy_file_is_refused_with_the_reason_and_leaves_nothing(
    http: httpx.Client, stack: LocalStack, other_token: str
) -> None:
    http.headers["Authorization"] = f"Bearer {other_token}"  # an account whose rate limit no other test uses
    before, listed = list_stored_blobs(stack), http.get("/datasets").json()
    for name, (file, message) in DAMAGED.items():
        answer = upload(http, file)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "bad_archive"), (name, problem)
        (error,) = problem["errors"]
        assert error["pointer"] == "/archive", name
        assert message in error["detail"], name
    assert list_stored_blobs(stack) == before
    assert http.get("/datasets").json() == listed


def test_an_upload_without_an_archive_names_it(http: httpx.Client) -> None:
    answer = http.post("/datasets", files={"name": (None, "mine")})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/archive"]


def test_an_upload_without_a_name_reports_whether_it_is_missing_or_empty(http: httpx.Client) -> None:
    files = {"archive": ("a.zip", archive(classes(5)), "application/zip")}
    for name, detail in (({"name": ""}, "is empty"), ({}, "is missing")):
        answer = http.post("/datasets", data=name, files=files)
        assert answer.json()["errors"] == [{"pointer": "/name", "detail": detail}]


@pytest.mark.parametrize("body", [{"json": {"name": "mine"}}, {"data": {"name": "mine"}}, {}])
def test_an_upload_that_is_not_multipart_is_refused_with_the_required_type(http: httpx.Client, body) -> None:
    answer = http.post("/datasets", **body)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media")
    assert "multipart/form-data" in answer.json()["detail"]


def test_a_repeated_upload_makes_one_dataset(http: httpx.Client, stack: LocalStack) -> None:
    packed = archive(classes(5))  # once: a zip holds the time
    first, second = (upload(http, packed, key="upload-1") for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert upload(http, classes(6), key="upload-1").json()["code"] == "idempotency_mismatch"
    assert sum(first.json()["id"] in name for name in list_stored_blobs(stack)) == 1


def test_built_in_sets_cannot_be_deleted(http: httpx.Client) -> None:
    assert http.delete("/datasets/sample").json()["code"] == "dataset_built_in"


def test_a_dataset_in_use_is_not_deleted(http: httpx.Client) -> None:
    made = upload(http, classes(5), size="24").json()
    order = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": made["id"], "profile": "smoke"}
    evaluation = http.post("/evaluations", json=order)
    assert evaluation.status_code == 202, evaluation.text
    refused = http.delete(f"/datasets/{made['id']}")
    ended = http.get(evaluation.headers["Location"]).json()["status"] not in ("queued", "running")
    assert ended or refused.json()["code"] == "dataset_in_use"


def test_an_order_and_the_deletion_of_its_dataset_are_not_both_taken(http: httpx.Client) -> None:
    order = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "profile": "smoke"}
    for _ in range(6):
        made = upload(http, classes(5), size="24").json()["id"]
        with ThreadPoolExecutor(2) as pool:
            orders = pool.submit(http.post, "/evaluations", json={**order, "dataset": made})
            deleted = pool.submit(http.delete, f"/datasets/{made}").result()
        ordered = orders.result()
        if ordered.status_code == 202:
            ended = http.get(ordered.headers["Location"]).json()
            assert deleted.status_code == 409 or ended["finished_at"] is not None, (deleted.text, ended)
        else:
            assert (ordered.json()["code"], deleted.status_code) == ("unknown_dataset", 204)


@pytest.mark.parametrize(
    ("more", "pointer"), [({"orginals": "x"}, "/orginals"), ({"size": ["24", "64"]}, "/size"), ({"": "x"}, "/")]
)
def test_a_field_that_is_unknown_or_sent_twice_is_refused(http: httpx.Client, more, pointer) -> None:
    files = {"archive": ("a.zip", archive(classes(5)), "application/zip")}
    answer = http.post("/datasets", data={"name": "photographs", **more}, files=files)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), answer.text


def test_pages_go_through_built_in_sets_and_uploads_once(http: httpx.Client) -> None:
    upload(http, classes(5))
    whole = [item["id"] for item in http.get("/datasets", params={"limit": 200}).json()["items"]]
    paged, cursor = [], None
    while True:
        page = http.get("/datasets", params={"limit": 2} | ({} if cursor is None else {"cursor": cursor})).json()
        assert len(page["items"]) <= 2
        paged += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == whole
    assert http.get("/datasets", params={"cursor": "nonsense"}).status_code == 422


def test_a_token_is_needed(http: httpx.Client) -> None:
    assert httpx.get(f"{http.base_url}/datasets").status_code == 401


def test_uploads_lie_where_only_the_service_reads_them(http: httpx.Client, stack: LocalStack) -> None:
    made = upload(http, classes(5)).json()
    assert Path(stack.state / "blobs" / "datasets" / f"{made['id']}.npz").stat().st_mode & 0o077 == 0
