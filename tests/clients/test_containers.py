"""The image and the Kubernetes example, as far as they can be checked without an engine."""

import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from merchantguard.operate.service.settings import KEYS_VARIABLE, ServiceSettings

ROOT = Path(__file__).parents[2]
RESOURCES: list[dict[str, Any]] = list(
    yaml.safe_load_all(ROOT.joinpath("deploy", "kubernetes.yaml").read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: str(each["kind"]))
def test_kubernetes_would_accept_it(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, "1.30", strict=True)


def _pod() -> dict[str, Any]:
    deployment = next(each for each in RESOURCES if each["kind"] == "Deployment")
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def test_the_grace_is_longer_than_the_service_takes_to_leave() -> None:
    settings = ServiceSettings(Path("bundle"))
    assert _pod()["terminationGracePeriodSeconds"] > settings.pause_seconds + settings.drain_seconds


def test_nothing_is_root_or_writable() -> None:
    [container] = _pod()["containers"]
    assert _pod()["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    volumes = {each["name"] for each in _pod()["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes


def test_the_image_is_built_from_all_that_the_package_needs() -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.split("/")[0] for path in project["tool"]["setuptools"]["package-dir"].values()}
    lines = ROOT.joinpath(".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    needed = folders | {project["project"]["readme"], *project["project"]["license-files"], "constraints.txt"}
    assert needed <= sent
    assert all(ROOT.joinpath(name).exists() for name in sent)


def test_the_image_runs_as_a_user_and_starts_the_service_itself() -> None:
    dockerfile = ROOT.joinpath("Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", dockerfile, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["merchantguard", "serve"', dockerfile, re.MULTILINE)
    assert KEYS_VARIABLE in dockerfile
