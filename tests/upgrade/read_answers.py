"""What an account reads of all that it owns, for a comparison with what the new version answers."""

from __future__ import annotations

from typing import Any

from tests.upgrade.drawn_images import SIDE
from tests.upgrade.old_state import pixels_sha256
from tests.upgrade.old_version import Api


def read_answers(api: Api) -> dict[str, Any]:
    """What an account reads of all that is its own: JSON as it is, CSV as text, images by the hash of their pixels."""
    paths = ["/keys?limit=100", "/datasets?limit=100", "/evaluations?limit=100"]
    answers: dict[str, Any] = {path: api.get(path) for path in paths}
    for path in paths:
        base = path.split("?")[0]
        for item in answers[path]["items"]:
            name = item.get("id") or item["name"]
            answers[f"{base}/{name}"] = api.get(f"{base}/{name}")
    for path, answer in list(answers.items()):
        if path.startswith("/evaluations/"):
            answers |= read_cells(api, path, answer)
        elif path.startswith("/keys/") and answer["status"] == "ready" and answer["provenance"] is None:
            size = f"width={answer['width'] or SIDE}&height={answer['height'] or SIDE}"
            response = api.client.get(f"{path}/material?{size}")
            if response.status_code != 403:  # the account lacks keys:export
                answers[f"{path}/material?{size}"] = response.json()
    return answers


def read_cells(api: Api, path: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    if evaluation["finished_at"] is not None:
        answers[f"{path}/events"] = api.request("GET", f"{path}/events").text
    for cell in evaluation["cells"]:
        if cell["status"] != "succeeded":
            continue
        base = f"{path}/cells/{cell['id']}"
        answers[f"{base}/curve"] = api.get(f"{base}/curve")
        answers[f"{base}/scores.csv"] = api.request("GET", f"{base}/scores.csv").text
        for sample in cell["samples"]:
            for kind in ("plain", "protected", "reconstructed"):
                if sample[kind]:
                    answers[sample[kind]] = pixels_sha256(api.request("GET", sample[kind]).content)
    return answers
