"""The manifests for Kubernetes, held against its schemas, its kustomize and what the proxy does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from grafana import build
from proxy import cli
from proxy.settings.config import Config, load
from tests.needs import lacking, need

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
#: What is applied: each of these folders by itself.
APPLIED = sorted(
    path.parent.name for path in FOLDER.glob("*/kustomization.yaml") if path.parent.name != "base"
)
PROXIES = sorted(path.parent.name for path in FOLDER.glob("*/config.toml"))
#: The first version with sidecars of its own unless told otherwise, and a recent one.
VERSIONS = ("1.29", "1.33")
TOKEN = "0123456789abcdef0123456789abcdef"

pytest.importorskip("yaml", reason="lacking here: kubernetes-validate, with PyYAML")
import yaml  # noqa: E402


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document is not None]


def manifests() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*/*.yaml")):
        for document in documents(path.read_text()):
            yield path, document


#: What `make clients` builds.
KUSTOMIZE = ROOT / "tests" / "clients" / ".build" / "kustomize" / "kustomize"


@cache
def built(name: str) -> list[dict[str, Any]]:
    """What ``kubectl apply -k`` sends."""
    program = [str(KUSTOMIZE), "build"] if KUSTOMIZE.exists() else [need("kubectl"), "kustomize"]
    done = subprocess.run(
        [*program, str(FOLDER / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def validate(document: dict[str, Any]) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        lacking("kubernetes-validate")
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def of_kubernetes(document: dict[str, Any]) -> bool:
    api = document["apiVersion"]
    return "." not in api.partition("/")[0] or api.partition("/")[0].endswith(".k8s.io")


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the proxy in a Deployment."""
    pod = document["spec"]["template"]["spec"]
    every = [*pod.get("initContainers", []), *pod["containers"]]
    return [
        one
        for one in every
        if re.search(r"(^|/)mongo-session-proxy(-redirect)?(:|$)", one["image"])
    ]


# ------------------------------------------------------------------ schemas


@pytest.mark.parametrize("name", ["base", "mongos", "replica-set", "sidecar"])
def test_what_is_written_by_hand_fits_the_schemas(name: str) -> None:
    checked = 0
    for path, document in manifests():
        if path.parent.name != name or document["kind"] == "Kustomization":
            continue
        if path.name != "sidecar.yaml":  # A patch is no whole object.
            validate(document)
            checked += 1
    assert checked


@pytest.mark.parametrize("name", APPLIED)
def test_what_is_applied_fits_the_schemas(name: str) -> None:
    applied = built(name)
    assert applied
    for document in applied:
        assert document["metadata"]["namespace"]
        if document["kind"] not in ("ServiceMonitor", "PodMonitor", "PrometheusRule"):
            validate(document)


def test_a_wrong_manifest_is_found() -> None:
    [wrong] = documents((FOLDER / "base" / "admin.yaml").read_text())
    wrong["spec"]["publishNotReadyAddress"] = True
    with pytest.raises(Exception, match="publishNotReadyAddress"):
        validate(wrong)


# ------------------------------------------------------------------ settings


def settings(name: str, folder: Path) -> Path:
    """An overlay's settings, with a token where its Secret has one."""
    text = (FOLDER / name / "config.toml").read_text()
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o440)
    path = folder / "config.toml"
    path.write_text(text.replace("/run/secrets/mongo-session-proxy/token", str(token)))
    return path


@pytest.mark.parametrize("name", PROXIES)
def test_check_config_has_nothing_to_say_of_the_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "token_file" not in (FOLDER / name / "config.toml").read_text():
        monkeypatch.setenv("MSP_ADMIN__TOKEN", TOKEN)
    assert cli.main(["check-config", "--strict", str(settings(name, tmp_path))]) == 0, (
        capsys.readouterr().err
    )


def loaded(name: str, folder: Path) -> Config:
    path = settings(name, folder)
    if "token_file" not in path.read_text():
        path.write_text(path.read_text().replace("[admin]", f'[admin]\ntoken = "{TOKEN}"'))
    return load(path)


@pytest.mark.parametrize("name", PROXIES)
def test_pods_fit_their_settings(name: str, tmp_path: Path) -> None:
    config = loaded(name, tmp_path)
    [pod] = [one for one in built(name) if one["kind"] == "Deployment"]
    spec = pod["spec"]["template"]["spec"]
    limits = config.limits
    assert spec["terminationGracePeriodSeconds"] > (
        limits.drain_delay_seconds + limits.drain_seconds + 5
    )
    ports = {port["containerPort"] for one in containers(pod) for port in one.get("ports", [])}
    assert int(config.admin.address.rpartition(":")[2]) in ports
    if not name.startswith("sidecar"):
        listening = [member.listen for member in config.upstream.members] or [config.listen.address]
        assert {int(address.rpartition(":")[2]) for address in listening} <= ports
        assert all(address.startswith("0.0.0.0:") for address in listening)
    [proxy] = [one for one in containers(pod) if "serve" in one.get("args", [])]
    most = int(proxy["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    # Docs: 50 MiB, 430 bytes for each session, up to 100 KiB for each connection that idles.
    needed = 50 * 2**20 + 430 * config.sessions.max_sessions + 100 * 2**10 * limits.connections
    assert needed + limits.buffered_bytes < most


def test_every_member_is_advertised_under_its_own_service(tmp_path: Path) -> None:
    config = loaded("replica-set", tmp_path)
    applied = built("replica-set")
    [pod] = [one for one in applied if one["kind"] == "Deployment"]
    ports = {port["name"]: port["containerPort"] for port in containers(pod)[0]["ports"]}
    services = {
        one["metadata"]["name"]: one["spec"]["ports"][0]
        for one in applied
        if one["kind"] == "Service"
    }
    for member in config.upstream.members:
        name, _, rest = member.advertise.partition(".")
        assert rest == f"{pod['metadata']['namespace']}.svc.cluster.local:{services[name]['port']}"
        assert ports[services[name]["targetPort"]] == int(member.listen.rpartition(":")[2])
        assert member.upstream in config.upstream.address


@pytest.mark.parametrize("name", PROXIES)
def test_services_find_their_pods_and_ports(name: str) -> None:
    applied = built(name)
    [pod] = [one for one in applied if one["kind"] == "Deployment"]
    labels = pod["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"] for one in containers(pod) for port in one.get("ports", [])}
    for one in applied:
        if one["kind"] == "Service":
            assert one["spec"]["selector"].items() <= labels
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
    volumes = pod["spec"]["template"]["spec"]["volumes"]
    names = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert names == {one["metadata"]["name"] for one in applied if one["kind"] == "ConfigMap"}


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_have_no_privileges(name: str) -> None:
    [pod] = [one for one in built(name) if one["kind"] == "Deployment"]
    whole = pod["spec"]["template"]["spec"].get("securityContext", {})
    [proxy] = [one for one in containers(pod) if "serve" in one.get("args", [])]
    context = whole | proxy["securityContext"]
    assert context["runAsNonRoot"]
    assert context["runAsUser"] == 10001, "as in deploy/Dockerfile"
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in containers(pod):
        if one is not proxy:
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}


@pytest.mark.parametrize("name", [name for name in PROXIES if name.startswith("sidecar")])
def test_a_sidecar_stays_and_does_not_speak_for_the_application(name: str) -> None:
    [pod] = [one for one in built(name) if one["kind"] == "Deployment"]
    [proxy] = [one for one in containers(pod) if "serve" in one.get("args", [])]
    assert proxy in pod["spec"]["template"]["spec"]["initContainers"]
    assert proxy["restartPolicy"] == "Always"
    assert "readinessProbe" not in proxy
    assert proxy["startupProbe"]["httpGet"]["path"] == "/healthz"


# ------------------------------------------------------------------ Prometheus


def test_prometheus_finds_ports_and_the_token() -> None:
    labels: list[tuple[dict[str, str], set[str]]] = []
    for name in PROXIES:
        for one in built(name):
            if one["kind"] == "Service":
                ports = {port["name"] for port in one["spec"]["ports"]}
                labels.append((one["metadata"].get("labels", {}), ports))
            elif one["kind"] == "Deployment":
                ports = {p["name"] for c in containers(one) for p in c.get("ports", [])}
                labels.append((one["spec"]["template"]["metadata"]["labels"], ports))
    by_kind = {one["kind"]: one for one in built("monitoring")}
    for kind, field in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        spec = by_kind[kind]["spec"]
        wanted = spec["selector"]["matchLabels"]
        [endpoint] = spec[field]
        found = [ports for has, ports in labels if wanted.items() <= has.items()]
        assert found
        assert all(endpoint["port"] in ports for ports in found)
        assert endpoint["path"] == "/metrics"
        assert endpoint["authorization"] == {
            "type": "Bearer",
            "credentials": {"name": "mongo-session-proxy-admin", "key": "token"},
        }


def test_the_alerts_are_those_of_grafana(tmp_path: Path) -> None:
    [rule] = documents((FOLDER / "monitoring" / "prometheusrule.yaml").read_text())
    assert rule["spec"] == yaml.safe_load((ROOT / "grafana" / "alerts.yml").read_text())
    assert FOLDER / "monitoring" / "prometheusrule.yaml" in build.files()
    # JSON is YAML.
    path = tmp_path / "alerts.yml"
    path.write_text(json.dumps(rule["spec"]))
    done = subprocess.run(
        [need("promtool"), "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
