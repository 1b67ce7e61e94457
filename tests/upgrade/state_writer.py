"""Fills the state folder of a running version 0.1 over HTTP with one of everything that has an end."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.upgrade.drawn_images import SIDE, draw_images, png_of, zip_of
from tests.upgrade.old_state import pixels_sha256
from tests.upgrade.old_version import UNVEIL, Api, OldStack, environment
from tests.upgrade.small_settings import GAN, ITN, LONG_ITN, LONG_TN_GAN, SCHEMES, TN_GAN, TN_MODEL, UNTRAINED_ATTACKS

COMMIT, SCHEMA = "2625808", "0006"
LEASE_S = 300  # outlasts the freeze of a worker


class StateWriter:
    """Fills a state folder, kills the stack, and notes in `expected` what was put where."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        for kind in ("plain", "protected"):
            (folder / "images" / kind).mkdir(parents=True)
        self.expected: dict[str, Any] = {
            "written_by": {
                "unveil": version("unveil"), "commit": COMMIT, "schema": SCHEMA, "python": platform.python_version(),
                "torch": version("torch"),
            },
            "accounts": {}, "datasets": {}, "keys": {}, "evaluations": {}, "idempotency": [],
        }  # fmt: skip
        self.stack: OldStack
        self.owner: Api
        self.research: Api

    def start(self) -> None:
        self.images = draw_images(self.folder, environment())
        self.write_data_folder()
        settings = environment(UNVEIL_LEASE_S=str(LEASE_S))
        self.stack = OldStack(self.state, "--attack-workers", "2", environment=settings)
        self.check_version()

    def fill(self) -> None:
        self.create_accounts()
        self.upload_plain()
        self.create_keys()
        self.protect_images()
        self.upload_protected()
        self.run_evaluations()

    def check_version(self) -> None:
        (row,) = self.stack.rows("SELECT version_num FROM alembic_version")
        assert row["version_num"] == SCHEMA, f"the schema is {row['version_num']}: install commit {COMMIT}"

    # --- accounts ---

    def create_accounts(self) -> None:
        """Besides `local`: one with most scopes, one with a single scope, one that is revoked; and a session."""
        self.owner = Api(self.stack.url, self.stack.token)
        orders = {
            "research": ["encrypt", "keys", "evaluate", "read"], "reader": ["read"], "former": ["encrypt", "read"],
        }  # fmt: skip
        for name, scopes in orders.items():
            account = self.post_once(f"create-{name}", "/accounts", {"name": name, "scopes": scopes}, 201)
            self.expected["accounts"][name] = account
        self.research = Api(self.stack.url, self.expected["accounts"]["research"]["token"])
        self.former = Api(self.stack.url, self.expected["accounts"]["former"]["token"])
        (local,) = [account for account in self.owner.get("/accounts")["items"] if account["name"] == "local"]
        self.expected["accounts"]["local"] = {**local, "token": self.stack.token}
        assert httpx.get(self.stack.sign_in_link).is_redirect

    def post_once(self, idempotency_key: str, path: str, body: Any, status: int, account: str = "local") -> Any:
        """POST with an Idempotency-Key, noted so that the new version can be asked the same again."""
        api = self.research if account == "research" else self.owner
        answer = api.post(path, body, status, idempotency_key)
        self.expected["idempotency"].append(
            {
                "key": idempotency_key,
                "account": account,
                "path": path,
                "json": body,
                "status": status,
                "id": answer["id"],
            }
        )
        return answer

    # --- datasets ---

    def write_data_folder(self) -> None:
        """A dataset of class folders that the operator put into DIR/data."""
        self.state.mkdir(mode=0o700)
        for number in range(10):
            path = self.state / "data" / "stones" / ("dark", "light")[number % 2] / f"{number}.png"
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(png_of(self.images[number, :24, :24]))

    def upload_plain(self) -> None:
        split = {"train": range(40), "test": range(40, 56)}
        archive = zip_of(
            {f"{name}/{self.label(i)}/{i:02}.png": png_of(self.images[i]) for name in split for i in split[name]}
        )
        self.upload("leaves", archive, size=str(SIDE))

    def upload_protected(self) -> None:
        """Images that went through /encrypt, and their originals under the same names."""
        names = [f"{'train' if i < 12 else 'test'}/{self.label(i)}/{i:02}.png" for i in range(20)]
        plain = {name: png_of(self.images[i]) for i, name in enumerate(names)}
        files = {name.replace("/", "-"): png for name, png in plain.items()}
        key_id = self.expected["keys"]["tanaka-paper"]["id"]
        protected = [image["png"] for image in self.owner.transform("encrypt", files, key_id=key_id)]
        self.upload(
            "protected leaves", zip_of(dict(zip(names, protected, strict=True))), zip_of(plain), kind="protected"
        )

    def upload(self, name: str, archive: bytes, originals: bytes | None = None, **fields: str) -> None:
        files = {"archive": ("archive.zip", archive, "application/zip")}
        if originals is not None:
            files["originals"] = ("originals.zip", originals, "application/zip")
        dataset = self.owner.request(
            "POST", "/datasets", 201, data={"name": name, **fields}, files=files,
            headers={"Idempotency-Key": f"upload-{name.replace(' ', '-')}"},
        ).json()  # fmt: skip
        self.expected["datasets"][name] = {"id": dataset["id"], "kind": dataset["kind"], "account": "local"}

    def label(self, number: int) -> str:
        """Which half of all images it belongs to, by brightness."""
        brightness = self.images.mean(axis=(1, 2, 3))
        return "light" if brightness[number] > np.median(brightness) else "dark"

    @property
    def leaves(self) -> str:
        return str(self.expected["datasets"]["leaves"]["id"])

    # --- keys ---

    def create_keys(self) -> None:
        """Drawn, given, trained, cancelled and destroyed ones; the later ones under a second master key."""
        trained = {
            "tn-model": self.order_key("tn-model", "tn-model", {**TN_MODEL, "dataset": self.leaves, "seed": 3}, 202),
            "tn-gan": self.order_key("tn-gan", "tn-gan", {**TN_GAN, "dataset": self.leaves}, 202),
            "cancelled": self.order_key("cancelled", "tn-gan", {**LONG_TN_GAN, "dataset": self.leaves}, 202),
        }
        self.owner.post(f"/keys/{trained['cancelled']}/cancel", None, 202)
        for name, (scheme, params) in SCHEMES.items():
            self.order_key(name, scheme, params, 201)
        subprocess.run([UNVEIL, "keys", "add-master", self.state / "secrets" / "keyring"], cwd=self.folder, check=True)
        for name, (scheme, params) in SCHEMES.items():
            model = self.owner.post("/keys", {"scheme": scheme, "params": params}, 201)["id"]
            material = self.owner.get(f"/keys/{model}/material?width={SIDE}&height={SIDE}")["material"]
            self.order_key(f"{name}-given", scheme, params, 201, material)
            self.owner.request("DELETE", f"/keys/{model}", 204)
        self.order_key("destroyed", "tanaka", {}, 201)
        self.order_key("destroyed-later", "tanaka", {}, 201)
        self.order_key("research", "etc", {}, 201, account="research")
        for name in ("tn-model", "tn-gan"):
            assert self.owner.wait_for_key(trained[name])["status"] == "ready"
        assert self.owner.wait_for_key(trained["cancelled"])["status"] == "cancelled"

    def order_key(
        self, name: str, scheme: str, params: dict[str, Any], status: int, material: Any = None, account: str = "local"
    ) -> str:
        body = {"scheme": scheme, "params": params} | ({} if material is None else {"material": material})
        if status == 202:
            body["params"] = {"profile": "smoke", **params}
        key = self.post_once(f"key-{name}", "/keys", body, status, account)
        self.note_key(name, key["id"], scheme, account)
        return str(key["id"])

    def note_key(self, name: str, id: str, scheme: str, account: str) -> None:
        self.expected["keys"][name] = {"id": id, "account": account, "scheme": scheme, "images": []}

    def protect_images(self) -> None:
        """Two images under every key that is ready; then one key is destroyed, and an account revoked."""
        sources = {"00.png": self.images[0], "01.png": self.images[1, :29, :27]}  # one of a size that must be padded
        for name, image in sources.items():
            (self.folder / "images" / "plain" / name).write_bytes(png_of(image))
        for name, key in self.expected["keys"].items():
            if name == "cancelled":
                continue
            fits_one_size = name.endswith("-given") and not name.startswith("tanaka")
            for source in sources:
                if not (fits_one_size and source == "01.png"):
                    self.protect(name, key["account"], source, key_id=key["id"])
        drawn = self.owner.transform(
            "encrypt", {name: png_of(image) for name, image in sources.items()}, "encrypt-drawing-keys",
            scheme="pixelwise", params='{"key_mode":"different"}',
        )  # fmt: skip
        for number, image in enumerate(drawn):
            name = f"drawn-{number}"
            self.expected["keys"][name] = {
                "id": image["key_id"],
                "account": "local",
                "scheme": "pixelwise",
                "images": [],
            }
            self.note_image(name, image["filename"], image["png"])
        self.owner.request("DELETE", f"/keys/{self.expected['keys']['destroyed']['id']}", 204)
        (image,) = self.former.transform("encrypt", {"00.png": png_of(self.images[0])}, scheme="tanaka")
        self.note_key("former", image["key_id"], "tanaka", "former")
        self.note_image("former", "00.png", image["png"])
        self.owner.request("DELETE", "/accounts/former", 204)

    def protect(self, name: str, account: str, source: str, **fields: str) -> None:
        api = self.research if account == "research" else self.owner
        plain = (self.folder / "images" / "plain" / source).read_bytes()
        (image,) = api.transform("encrypt", {source: plain}, **fields)
        self.note_image(name, source, image["png"])

    def note_image(self, name: str, source: str, protected: bytes) -> None:
        file = f"protected/{name}-{source}"
        (self.folder / "images" / file).write_bytes(protected)
        plain = (self.folder / "images" / "plain" / source).read_bytes()
        self.expected["keys"][name]["images"].append({
            "plain": f"plain/{source}", "protected": file,
            "plain_sha256": pixels_sha256(plain), "protected_sha256": pixels_sha256(protected),
        })  # fmt: skip

    # --- evaluations ---

    def run_evaluations(self) -> None:
        """One of everything that ends `succeeded`, one `failed`, one `cancelled`, and one of another account."""
        keys = self.expected["keys"]
        schemes = [{"name": name, **params} for name, params in SCHEMES.values()]
        schemes[-1]["key_id"] = keys["etc"]["id"]
        schemes += [
            {"name": "tn-model", "key_id": keys["tn-model"]["id"]},
            {"name": "tn-gan", **TN_GAN},  # trains its own key
            {"name": "external", "dataset": self.expected["datasets"]["protected leaves"]["id"]},
        ]
        finished = self.order_evaluation("finished", schemes, [*UNTRAINED_ATTACKS, ITN, GAN], keys=2)
        utility = self.order_evaluation("utility", [schemes[2], schemes[6]], [{"name": "none"}], utility=True)
        failed = self.order_evaluation(
            "failed", [{"name": "tanaka", "key_id": keys["destroyed-later"]["id"]}, {"name": "ele"}], [{"name": "none"}]
        )
        cancelled = self.order_evaluation("cancelled", [{"name": "ele"}], [{"name": "none"}, LONG_ITN])
        self.owner.request("DELETE", f"/keys/{keys['destroyed-later']['id']}", 204)
        self.owner.post(f"/evaluations/{cancelled}/cancel", None, 202)
        other = self.order_evaluation(
            "research", [{"name": "etc", "key_id": keys["research"]["id"]}], [{"name": "none"}, {"name": "fr"}],
            account="research", dataset="stones", samples=0,
        )  # fmt: skip
        for id, status in (
            (finished, "succeeded"),
            (utility, "succeeded"),
            (failed, "failed"),
            (cancelled, "cancelled"),
        ):
            assert self.owner.wait_for_evaluation(id)["status"] == status
        assert self.research.wait_for_evaluation(other)["status"] == "succeeded"

    def order_evaluation(
        self, name: str, schemes: list[Any], attacks: list[Any], account: str = "local", **settings: Any
    ) -> str:
        body = {
            "name": name, "dataset": self.leaves, "profile": "smoke", "seed": 1, "samples": 1, "keys": 1,
            "schemes": schemes, "attacks": attacks, **settings,
        }  # fmt: skip
        evaluation = self.post_once(f"evaluation-{name}", "/evaluations", body, 202, account)
        self.expected["evaluations"][name] = {"id": evaluation["id"], "account": account}
        return str(evaluation["id"])
