"""`examples/plugin` as a user has it: installed beside the service, used over HTTP, and removed again."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.sample_images import pixels, png
from tests.wheels import ROOT, UV
from unveil.app.local.stack import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def wait(client: httpx.Client, path: str) -> dict:
    deadline = time.monotonic() + 600
    while (body := client.get(path).json())["status"] in ("queued", "running"):
        assert time.monotonic() < deadline, body
        time.sleep(1)
    return body


def test_a_package_is_installed_used_over_http_and_removed(tmp_path: Path) -> None:
    target, state = tmp_path / "site", tmp_path / "state"
    install = [*UV, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    install += ["--python", sys.executable, "--target", str(target)]
    subprocess.run([*install, str(ROOT / "examples" / "plugin")], check=True)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(target), os.environ.get("PYTHONPATH"))))}
    name = "example/row-shuffle"
    with (
        LocalStack(state, port=0, durable=False, environment=environment) as stack,
        httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=60) as client,
    ):
        plugins = client.get("/plugins").json()["plugins"]
        assert [(p["name"], p["kind"], p["distribution"], p["version"], p["status"]) for p in plugins] == [
            (name, "scheme", "unveil-example-plugin", "1.0.0", "loaded"),
            ("example/sort-rows", "attack", "unveil-example-plugin", "1.0.0", "loaded"),
            ("example/mean-error", "metric", "unveil-example-plugin", "1.0.0", "loaded"),
        ]
        origin = {key: plugins[0][key] for key in ("distribution", "version", "source_sha256")}
        scheme = client.get(f"/schemes/{name}").json()
        assert scheme["origin"] == origin
        assert {"chosen-plaintext", "example/sort-rows"} <= set(scheme["attacks"])

        plain = png(1)
        sent = client.post("/encrypt", files={"images": ("a.png", plain)}, data={"scheme": name})
        (protected,) = sent.json()["images"]
        assert client.get(f"/keys/{protected['key_id']}").json()["scheme"] == name
        assert client.get(f"/keys/{protected['key_id']}/material").status_code == 409
        ciphertext = base64.b64decode(protected["data"])
        answer = client.post(
            "/decrypt", files={"images": ("a.png", ciphertext)}, data={"key_id": protected["key_id"]}
        ).json()
        (decrypted,) = answer["images"]
        assert (np.array(Image.open(io.BytesIO(base64.b64decode(decrypted["data"])))) == pixels(1)).all()

        order = {
            "schemes": [{"name": name}, {"name": "pixelwise"}],
            "attacks": [{"name": "none"}, {"name": "chosen-plaintext"}, {"name": "example/sort-rows"}],
            "dataset": "sample", "profile": "smoke", "keys": 1, "samples": 1,
        }  # fmt: skip
        created = client.post("/evaluations", json=order)
        assert created.status_code == 202, created.text
        path = created.headers["Location"]
        evaluation = wait(client, path)
        assert evaluation["status"] == "succeeded", evaluation
        cells = {(cell["scheme"]["name"], cell["attack"]["name"]): cell for cell in evaluation["cells"]}
        assert cells[name, "chosen-plaintext"]["result"]["verdict"] == "broken"
        mine = cells[name, "example/sort-rows"]
        assert mine["origin"] == {"scheme": origin, "attack": origin}
        assert mine["result"]["metrics"]["example/mean-error"]["n"] == mine["result"]["ssim"]["n"]
        assert cells["pixelwise", "example/sort-rows"]["status"] == "not_applicable"
        assert origin["source_sha256"] in client.get(f"{path}/report.html").text
        assert name in client.get(f"{path}/report.csv").text

    shutil.rmtree(target)
    with (
        LocalStack(state, port=0, durable=False) as stack,
        httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=60) as client,
    ):
        assert client.get("/plugins").json() == {"plugins": []}
        assert client.get(f"/schemes/{name}").status_code == 404
        gone = client.post("/encrypt", files={"images": ("a.png", plain)}, data={"scheme": name})
        assert (gone.status_code, gone.json()["code"]) == (422, "unknown_scheme")
        evaluation = client.get(path).json()  # results outlive the code
        (mine,) = [c for c in evaluation["cells"] if c["id"] == mine["id"]]
        assert mine["origin"]["attack"] == origin
        assert client.get(f"{path}/report.html").status_code == 200
        assert client.get(f"/keys/{protected['key_id']}").status_code == 200
