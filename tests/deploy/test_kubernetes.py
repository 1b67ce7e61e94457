"""The manifests of deploy/kubernetes against the published schemas, and against what the service needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import kubernetes_validate
import pytest
import sqlalchemy
import yaml

from tests.app.service import run_service
from unveil.app.settings import Settings, variable_name

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kubernetes"
UNCHECKED = {"ScaledObject", "TriggerAuthentication"}  # KEDA's: no registry package has their schemas

Manifest = dict[str, Any]


def kustomization(folder: str) -> Manifest:
    held: Manifest = yaml.safe_load((MANIFESTS / folder / "kustomization.yaml").read_text())
    return held


def read_base() -> list[Manifest]:
    files = kustomization("base")["resources"]
    return [manifest for name in files for manifest in yaml.safe_load_all((MANIFESTS / "base" / name).read_text())]


def read_gpu() -> list[Manifest]:
    manifests = read_base()
    for patch in kustomization("gpu")["patches"]:
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        index = next(i for i, each in enumerate(manifests) if (each["kind"], each["metadata"]["name"]) == (kind, name))
        manifests[index] = jsonpatch.JsonPatch(yaml.safe_load(patch["patch"])).apply(manifests[index])
    return manifests


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "Job"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("read", [read_base, read_gpu])
def test_every_manifest_fits_its_schema(read):
    manifests = read()
    assert {manifest["kind"] for manifest in manifests} >= {"Deployment", "Job", "Service", "NetworkPolicy"}
    for manifest in manifests:
        if manifest["kind"] not in UNCHECKED:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_misspelled_field_is_found():
    deployment = next(manifest for manifest in read_base() if manifest["kind"] == "Deployment")
    deployment["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


def test_every_file_of_the_base_is_listed():
    files = {path.name for path in (MANIFESTS / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization("base")["resources"]) == files


def test_every_pod_runs_without_privileges_and_within_limits():
    for name, pod in pods(read_gpu()):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"], name
            assert not security["allowPrivilegeEscalation"], name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name


def test_the_keyring_is_mounted_only_where_keys_are_used():
    mounted = {name for name, pod in pods(read_base()) if "keyring" in [volume["name"] for volume in pod["volumes"]]}
    assert mounted == {"unveil-api", "unveil-worker-encrypt", "unveil-worker-attack"}


def test_settings_are_known():
    literals = kustomization("base")["configMapGenerator"][0]["literals"]
    names = {literal.split("=")[0] for literal in literals}
    names |= {variable["name"] for _, pod in pods(read_base()) for variable in pod["containers"][0].get("env", ())}
    assert names <= {variable_name(field) for field in Settings.model_fields}


def test_gpu_workers_get_a_gpu_each():
    pod = dict(pods(read_gpu()))["unveil-worker-attack"]
    container = pod["containers"][0]
    assert container["env"] == [{"name": "UNVEIL_DEVICE", "value": "cuda"}]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}


@pytest.mark.anyio
async def test_the_autoscaler_scales_an_existing_deployment_by_the_number_of_active_jobs(settings: Settings) -> None:
    scaler = next(manifest for manifest in read_base() if manifest["kind"] == "ScaledObject")
    assert scaler["spec"]["scaleTargetRef"]["name"] in dict(pods(read_base()))
    query = sqlalchemy.text(scaler["spec"]["triggers"][0]["metadata"]["query"])
    order = {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "sample", "profile": "smoke"}
    async with run_service(settings) as service, service.app_state.sessions() as session:
        assert await session.scalar(query) == 0
        async with service.client(await service.create_account()) as client:
            made = (await client.post("/evaluations", json=order)).raise_for_status().json()
        await session.rollback()  # a new snapshot
        queued = sum(cell["status"] == "queued" for cell in made["cells"])
        assert await session.scalar(query) == queued > 0
