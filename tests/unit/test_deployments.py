"""The files in deploy/ that run the daemon fit together, and fit what it does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import yaml

from server.config import Config, load
from server.storage.sqlite.schema import FORMAT_VERSION
from tests.support.deployments import DEPLOY, compose, dockerfile, manifest, unit_file

ROOT = DEPLOY.parent
DATA = "/var/lib/trackd"
SETTINGS = "/etc/trackd/trackd.toml"
LABEL = {"app.kubernetes.io/name": "trackd"}
DEFAULTS = Config()


def port(address: str) -> int:
    """Of HOST:PORT."""
    return int(address.rpartition(":")[2])


PORTS = {port(DEFAULTS.listen.grpc), port(DEFAULTS.listen.metrics)}


# Containers


def test_the_image_has_what_the_daemon_needs() -> None:
    """Ports, a place for data, an account that is not root, and the code of every package that is installed."""
    steps = dockerfile()
    assert {int(number) for number in steps["EXPOSE"][-1].split()} == PORTS
    assert steps["VOLUME"] == [DATA]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", steps["USER"][-1])
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {word for step in steps["COPY"] if not step.startswith("--from") for word in step.split()[:-1]}
    assert {*packages["packages"], "clients/python", "pyproject.toml", "README.md"} == copied
    let_in = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in let_in if line.startswith("!")} == copied
    assert len(steps["FROM"]) == 2
    assert {line.split()[0] for line in steps["FROM"]} == {steps["FROM"][0].split()[0]}


def test_the_services_of_the_compose_file_find_each_other() -> None:
    """What is mounted exists, ports are shown to this machine only, addresses are those of services."""
    services = compose()["services"]
    for name, service in services.items():
        for shown in service["ports"]:
            host, _outer, inner = shown.rsplit(":", 2)
            assert host == "127.0.0.1"
            assert name != "trackd" or int(inner) in PORTS
        for mounted in service["volumes"]:
            source, _colon, _target = mounted.partition(":")
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose()["volumes"]
    trackd = services["trackd"]
    assert (ROOT / trackd["build"]["dockerfile"]).is_file()
    assert (DEPLOY / trackd["build"]["context"]).resolve() == ROOT
    (scraped,) = yaml.safe_load((DEPLOY / "prometheus/compose.yml").read_text("utf-8"))["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"trackd:{port(DEFAULTS.listen.metrics)}"]}]
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "127.0.0.1:9090:9090" in services["prometheus"]["ports"]


def test_grafana_finds_the_dashboards() -> None:
    """Where its provisioning looks is where they are mounted."""
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/trackd.yml").read_text("utf-8"))[
        "providers"
    ]
    assert f"./grafana:{provider['options']['path']}:ro" in compose()["services"]["grafana"]["volumes"]


def test_prometheus_has_the_same_settings_in_the_compose_file() -> None:
    """But for the address of the daemon. Its settings are among what is mounted, and it keeps a whole window."""
    plain, composed = (
        yaml.safe_load((DEPLOY / "prometheus" / name).read_text("utf-8")) for name in ("prometheus.yml", "compose.yml")
    )
    (one,), (other,) = plain["scrape_configs"], composed["scrape_configs"]
    assert one.pop("static_configs") != other.pop("static_configs")
    assert plain == composed
    prometheus = compose()["services"]["prometheus"]
    assert "./prometheus:/etc/prometheus:ro" in prometheus["volumes"]
    assert "--config.file=/etc/prometheus/compose.yml" in prometheus["command"]
    (kept,) = [word for word in prometheus["command"] if "retention.time" in word]
    longest_s = max(objective.window_seconds for objective in DEFAULTS.objective)
    assert int(kept.partition("=")[2].removesuffix("d")) * 86_400 > longest_s


# Kubernetes


def container() -> dict[str, Any]:
    """The one of the one pod."""
    (found,) = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_names_in_the_manifests_lead_somewhere() -> None:
    """Labels, ports, volumes and the name of the service."""
    stateful, service = manifest("StatefulSet")["spec"], manifest("Service")
    assert stateful["replicas"] == 1
    assert stateful["serviceName"] == service["metadata"]["name"]
    selectors = [
        stateful["selector"]["matchLabels"],
        service["spec"]["selector"],
        manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        manifest("ServiceMonitor")["spec"]["selector"]["matchLabels"],
    ]
    assert selectors == [LABEL] * 4
    assert LABEL.items() <= stateful["template"]["metadata"]["labels"].items()
    assert LABEL.items() <= service["metadata"]["labels"].items()
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    assert set(ports.values()) == PORTS
    assert {one["targetPort"] for one in service["spec"]["ports"]} == ports.keys()
    assert {one["name"]: one["port"] for one in service["spec"]["ports"]} == ports
    allowed = [one["port"] for rule in manifest("NetworkPolicy")["spec"]["ingress"] for one in rule["ports"]]
    assert set(allowed) == ports.keys()
    assert [one["port"] for one in manifest("ServiceMonitor")["spec"]["endpoints"]] == ["metrics"]
    claims = [one["metadata"]["name"] for one in stateful["volumeClaimTemplates"]]
    volumes = {*claims, *(one["name"] for one in stateful["template"]["spec"]["volumes"])}
    assert {one["name"] for one in container()["volumeMounts"]} == volumes


def test_a_restart_needs_a_writer_that_is_stuck_and_not_a_full_disk() -> None:
    """Liveness asks /healthz, readiness /readyz, both on the port that is not the senders'."""
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {"metrics"}


def test_the_pod_is_as_small_as_the_image_allows() -> None:
    """The account of the image, a root that cannot be written, no capability; one node, one pod for the volume."""
    pod = manifest("StatefulSet")["spec"]["template"]["spec"]
    account = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert dockerfile()["USER"] == [account]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (claim,) = manifest("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert container()["image"] == f"trackd:{version}"


def test_the_settings_in_the_config_map_are_settings(tmp_path: Path) -> None:
    """The daemon loads them, and listens where Kubernetes looks."""
    (name,) = manifest("ConfigMap")["data"]
    file = tmp_path / name
    file.write_text(manifest("ConfigMap")["data"][name], "utf-8")
    loaded = load(file, {})
    assert {port(loaded.listen.grpc), port(loaded.listen.metrics)} == PORTS
    assert msgspec.structs.replace(loaded, listen=DEFAULTS.listen) == DEFAULTS
    (mounted,) = [one["mountPath"] for one in container()["volumeMounts"] if one["name"] == "settings"]
    assert f"--config={mounted}/{name}" in container()["args"]


# Time to start and to stop


def test_everywhere_there_is_time_to_recover_and_to_stop() -> None:
    """A start over hundreds of months and a stop that answers what is in flight are given the same time everywhere."""
    service = unit_file()["Service"]
    assert (service["TimeoutStartSec"], service["TimeoutStopSec"]) == (["15min"], ["2min"])
    startup = container()["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 900
    assert manifest("StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 120
    assert compose()["services"]["trackd"]["stop_grace_period"] == "2m"
    assert "--start-period=15m" in dockerfile()["HEALTHCHECK"][0]


# Instructions


def test_the_instructions_are_about_files_that_are_there() -> None:
    """What commands and links name exists, and what is installed is where the unit looks for it."""
    text = "".join((DEPLOY / name).read_text("utf-8") for name in ("README.md", "UPGRADING.md"))
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (DEPLOY / target).exists(), target
    for path in re.findall(r"(?<![\w/])deploy/[\w./*-]+\w", text):
        assert list(ROOT.glob(path)), path
    (start,) = unit_file()["Service"]["ExecStart"]
    program, *words = start.split()
    assert f"{program.removesuffix('/bin/trackd')}/bin/pip install" in text
    assert f"deploy/trackd.toml {words[words.index('--config') + 1]}" in text
    assert words[words.index("--data") + 1] == f"/var/lib/{unit_file()['Service']['StateDirectory'][0]}"
    account = unit_file()["Service"]["User"]
    assert f"\nu {account[0]} - " in (DEPLOY / "systemd" / "sysusers.conf").read_text("utf-8")


def test_what_formats_there_are_is_told() -> None:
    """The newest of the table is the one that files are written in."""
    text = (DEPLOY / "UPGRADING.md").read_text("utf-8")
    told = [int(number) for number in re.findall(r"^\| (\d+) \| \d", text, re.MULTILINE)]
    assert told[-1] == FORMAT_VERSION
    assert f"by a trackd that knows {FORMAT_VERSION}" in text
