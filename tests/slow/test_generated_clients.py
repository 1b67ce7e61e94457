"""Clients that others' generators make of the OpenAPI document carry out the whole work of a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.sample_images import archive, classes, png
from unveil.app.local.stack import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
NPM_PACKAGES = ("openapi-typescript@7.13.0", "openapi-fetch@0.14.0", "typescript@5.9.3")

PYTHON_FLOW = """
import base64, io, sys, time

from generated.api.datasets import upload_dataset
from generated.api.encryption import decrypt, encrypt
from generated.api.evaluations import create_evaluation, get_evaluation, get_report
from generated.api.keys import create_key, get_key
from generated.client import AuthenticatedClient
from generated.models import (
    BodyUploadDataset, DecryptBody, EncryptBody, EvaluationCreate, EvaluationCreateProfile, KeyCreate,
)
from generated.models.format_ import Format
from generated.types import File

url, token, image, dataset = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True, timeout=120)

key = create_key.sync(client=client, body=KeyCreate.from_dict({"scheme": "tanaka"}))
assert get_key.sync(key.id, client=client).status == "ready"
plain = open(image, "rb").read()
body = EncryptBody(images=[File(io.BytesIO(plain), "a.png", "image/png")], key_id=[key.id])
(protected,) = encrypt.sync(client=client, body=body).images
body = DecryptBody(images=[File(io.BytesIO(base64.b64decode(protected.data)), "b.png")], key_id=[key.id])
(restored,) = decrypt.sync(client=client, body=body).images
assert restored.notes == [], restored.notes

body = BodyUploadDataset(name="photographs", archive=File(open(dataset, "rb"), "set.zip", "application/zip"), size=24)
uploaded = upload_dataset.sync(client=client, body=body)
assert uploaded.classes == ["a", "b"]
order = {"name": "generated", "schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": uploaded.id}
order |= {"profile": "smoke", "keys": 1, "samples": 1}
evaluation = create_evaluation.sync(client=client, body=EvaluationCreate.from_dict(order))
while get_evaluation.sync(evaluation.id, client=client).status in ("queued", "running"):
    time.sleep(0.5)
finished = get_evaluation.sync(evaluation.id, client=client)
assert finished.status == "succeeded", finished
report = get_report.sync_detailed(evaluation.id, Format.HTML, client=client)
assert report.status_code == 200 and b"tanaka" in report.content.lower()
print("done")
"""

TYPESCRIPT_FLOW = """
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated.js";

const [url, token, image, dataset] = process.argv.slice(2) as [string, string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });

type Transform = components["schemas"]["TransformOut"]; // the service answers JSON unless asked for a file

function must<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

// Files are strings in the generated types; a form sends them as blobs.
const form = (body: Record<string, unknown>): FormData => {
  const data = new FormData();
  for (const [name, value] of Object.entries(body))
    for (const item of Array.isArray(value) ? value : [value])
      if (item instanceof Blob) data.append(name, item, name === "archive" ? "set.zip" : "a.png");
      else data.append(name, String(item));
  return data;
};
const file = (bytes: Uint8Array<ArrayBuffer>): string => new Blob([bytes]) as unknown as string;

const key = must(await client.POST("/keys", { body: { scheme: "tanaka" } }));
must(await client.GET("/keys/{id}", { params: { path: { id: key.id } } }));
const images = [file(new Uint8Array(readFileSync(image)))];
const encrypted = (must(
  await client.POST("/encrypt", { body: { images, key_id: [key.id] }, bodySerializer: form }),
) as Transform).images[0]!;
const ciphertexts = [file(new Uint8Array(Buffer.from(encrypted.data, "base64")))];
const restored = (must(
  await client.POST("/decrypt", { body: { images: ciphertexts, key_id: [key.id] }, bodySerializer: form }),
) as Transform).images[0]!;
if (restored.notes.length) throw new Error(restored.notes.join());

const body = { name: "photographs", archive: file(new Uint8Array(readFileSync(dataset))), size: 24 };
const uploaded = must(
  await client.POST("/datasets", { body: body as never, bodySerializer: form as never }),
);
const ordered = must(
  await client.POST("/evaluations", {
    body: {
      name: "generated", schemes: [{ name: "tanaka" }], attacks: [{ name: "none" }], dataset: uploaded.id,
      profile: "smoke", keys: 1, samples: 1,
    } as never,
  }),
);
const params = { path: { evaluation_id: ordered.id } };
let found = must(await client.GET("/evaluations/{evaluation_id}", { params }));
while (["queued", "running"].includes(found.status)) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  found = must(await client.GET("/evaluations/{evaluation_id}", { params }));
}
if (found.status !== "succeeded") throw new Error(JSON.stringify(found.cells));
const report = await client.GET("/evaluations/{evaluation_id}/report.{format}", {
  params: { path: { evaluation_id: ordered.id, format: "html" } }, parseAs: "text",
});
if (!String(report.data).includes("tanaka")) throw new Error("no report");
console.log("done");
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image and a dataset."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "a.png").write_bytes(png(0))
    (folder / "set.zip").write_bytes(archive(classes(20)))
    return folder / "a.png", folder / "set.zip"


@pytest.fixture(scope="module")
def document(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(json.dumps(httpx.get(f"{stack.url}/openapi.json").raise_for_status().json()))
    return path


def run(*command: str | Path, folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_openapi_python_client(stack: LocalStack, document: Path, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    generate = ("generate", "--path", document, "--meta", "none", "--output-path", tmp_path / "generated")
    run(BIN / "openapi-python-client", *generate, folder=tmp_path)
    (tmp_path / "flow.py").write_text(PYTHON_FLOW)
    assert run(sys.executable, "flow.py", stack.url, stack.token, *inputs, folder=tmp_path) == "done\n"


def test_openapi_typescript(stack: LocalStack, document: Path, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run(BIN / "npm", "install", "--no-audit", "--no-fund", *NPM_PACKAGES, "@types/node@24", folder=tmp_path)
    run(BIN / "npx", "openapi-typescript", document, "-o", "generated.d.ts", folder=tmp_path)
    (tmp_path / "flow.ts").write_text(TYPESCRIPT_FLOW)
    options = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    run(BIN / "npx", "tsc", *options, "flow.ts", folder=tmp_path)
    assert run(BIN / "node", "flow.ts", stack.url, stack.token, *inputs, folder=tmp_path) == "done\n"
