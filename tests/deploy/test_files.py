"""The files of `deploy/` that cannot run here are what their schemas and linters ask for."""

import json
import re
import shutil
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.proxies import BINARIES, CHECKOUT, DEPLOY, SHIPPED, configured, program
from tests.deploy.tools import needs
from tests.kit.peers import served

from headway import Headway
from headway.cli.server.http_server import LAST_ANSWERS_TIMEOUT, STOP_MOMENT
from headway.settings import Settings

KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


FOLLOWS = "import compose_spec, sys; compose_spec.PyCompose.from_json(sys.stdin.read())"


def run(*words: object, stdin: str = "") -> str:
    """What a program says; it has to be content."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", SHIPPED)
def test_a_proxy_takes_its_configuration_without_a_warning(name: str, tmp_path: Path) -> None:
    needs(program(name), name)
    file = configured(name, [1, 2], 3, tmp_path)
    found = program(name)
    words = [word.replace("{file}", str(file)) for word in SHIPPED[name].check]
    said = run(found, *words[1:])
    assert not re.search(r"\bwarn", said.replace("--log-level warning", ""), re.IGNORECASE), said


def test_the_dockerfile_has_no_faults() -> None:
    needs((BINARIES / "hadolint").exists(), "hadolint")
    assert run(BINARIES / "hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile") == ""


def test_the_image_is_made_of_what_the_dockerfile_copies() -> None:
    """What .dockerignore lets in, and what the Dockerfile asks for, is the same."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text()
    admitted = set(re.findall(r"^!(\S+)$", ignored, re.MULTILINE))
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert {name for names in copied for name in names.split()} == admitted
    assert all((CHECKOUT / name).exists() for name in admitted)


def test_the_compose_file_follows_the_specification() -> None:
    needs((BINARIES / "compose-lint").exists(), "compose-lint")
    assert run(BINARIES / "python", "-c", FOLLOWS, stdin=composed()) == ""
    misspelt = composed().replace("stop_grace_period", "stop_grace_perod")
    with pytest.raises(AssertionError, match="stop_grace_perod"):
        run(BINARIES / "python", "-c", FOLLOWS, stdin=misspelt)
    run(BINARIES / "compose-lint", "check", "--fail-on", "high", DEPLOY / "compose.yaml")


def composed() -> str:
    """The compose file as JSON, each variable with its default, or else its name."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / "compose.yaml").read_text())
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", r"\1", text)
    return json.dumps(yaml.safe_load(text))


def test_the_manifests_follow_the_schemas_of_kubernetes() -> None:
    needs((BINARIES / "kubernetes-validate").exists(), "kubernetes-validate")
    said = run(BINARIES / "kubernetes-validate", "--strict", *KUBERNETES)
    assert said.count(" passed ") == len(manifests())


def test_redis_asks_for_a_password_that_headway_has() -> None:
    services = json.loads(composed())["services"]
    command = services["redis"]["command"]
    assert command[command.index("--requirepass") + 1] == "REDIS_PASSWORD"
    assert services["redis"]["environment"]["REDISCLI_AUTH"] == "REDIS_PASSWORD"
    for name in ("headway-1", "headway-2", "worker-1", "worker-2"):
        journal = services[name]["environment"]["HEADWAY_JOURNAL"]
        assert journal == "redis://:REDIS_PASSWORD@redis:6379/0"

    found = {(one["kind"], one["metadata"]["name"]): one for one in manifests()}
    (redis,) = found["StatefulSet", "redis"]["spec"]["template"]["spec"]["containers"]
    (password,) = redis["env"]
    args = redis["args"]
    assert args[args.index("--requirepass") + 1] == f"$({password['name']})"
    for name in ("headway", "headway-worker"):
        (pod,) = found["Deployment", name]["spec"]["template"]["spec"]["containers"]
        known = {each["name"]: each for each in pod["env"]}
        # Kubernetes replaces a variable in another one that comes after it.
        assert [*known][:2] == ["HEADWAY_REDIS_PASSWORD", "HEADWAY_JOURNAL"]
        assert known["HEADWAY_REDIS_PASSWORD"]["valueFrom"] == password["valueFrom"]
        journal = known["HEADWAY_JOURNAL"]["value"]
        assert journal == "redis://:$(HEADWAY_REDIS_PASSWORD)@redis:6379/0"


def test_pods_ask_redis_names_and_the_internet_and_nobody_else() -> None:
    found = {(one["kind"], one["metadata"]["name"]): one for one in manifests()}
    assert found["NetworkPolicy", "redis"]["spec"]["egress"] == []
    policy = found["NetworkPolicy", "headway"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    closed = [
        ip_network(text)
        for rule in policy["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
        for text in peer["ipBlock"]["except"]
    ]
    for address in ("10.1.2.3", "169.254.169.254", "192.168.0.1", "fd00:ec2::254", "fe80::1"):
        assert any(ip_address(address) in network for network in closed), address


def manifests() -> list[dict[str, Any]]:
    """All resources, as plain data."""
    return [one for file in KUBERNETES for one in yaml.safe_load_all(file.read_text())]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def shutdown_delay_of(words: list[str]) -> float:
    """What a command of a replica sets; 0: nothing."""
    return sum(
        seconds(word.removeprefix("shutdown_delay=")) for word in words if "shutdown_delay=" in word
    )


def test_a_container_has_the_time_that_its_calls_have() -> None:
    services = json.loads(composed())["services"]
    replicas = [services[name] for name in ("headway-1", "headway-2")]
    for replica in replicas:
        grace = seconds(replica["environment"]["HEADWAY_GRACE"])
        rest = 5 + max(STOP_MOMENT, shutdown_delay_of(replica["command"])) + LAST_ANSWERS_TIMEOUT
        assert seconds(replica["stop_grace_period"]) > grace + rest


def test_nginx_gives_up_its_connections_while_a_replica_tells_of_its_end() -> None:
    """It has no checks: what it keeps for longer may be closed under a request."""
    (kept,) = re.findall(r"\bkeepalive_timeout (\d+)s", (DEPLOY / "nginx.conf").read_text())
    assert int(kept) < shutdown_delay_of(json.loads(composed())["services"]["headway-1"]["command"])


@pytest.mark.anyio
async def test_the_autoscaler_asks_for_a_number_that_a_pod_has() -> None:
    found = {one["kind"]: one for one in manifests() if one["metadata"]["name"] == "headway"}
    (metric,) = found["HorizontalPodAutoscaler"]["spec"]["metrics"]
    asked = metric["pods"]["metric"]
    ((label, value),) = asked["selector"]["matchLabels"].items()
    pod = found["Deployment"]["spec"]["template"]
    path = pod["metadata"]["annotations"]["prometheus.io/path"]
    assert "metrics=all" in pod["spec"]["containers"][0]["args"]
    async with served(Headway("pod")) as wire:
        page = (await (await wire.ask("GET", {}, path=path)).body()).decode()
    assert f'{asked["name"]}{{{label}="{value}"}} 0.0' in page.splitlines()


def test_a_pod_has_the_time_that_its_calls_have() -> None:
    """Grace, shielded parts (5 s), quiet connections and last answers (3 s): then SIGKILL."""
    found = {(one["kind"], one["metadata"]["name"]): one for one in manifests()}
    grace = seconds(found["ConfigMap", "headway"]["data"]["HEADWAY_GRACE"])
    for name in ("headway", "headway-worker"):
        pod = found["Deployment", name]["spec"]["template"]["spec"]
        notice = shutdown_delay_of(pod["containers"][0]["args"])
        assert (
            pod["terminationGracePeriodSeconds"]
            > grace + 5 + max(STOP_MOMENT, notice) + LAST_ANSWERS_TIMEOUT
        )
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("nginx.conf", r"\bkeepalive_timeout (\d+)s"),
        ("Caddyfile", r"\bkeepalive (\d+)s"),
        ("haproxy.cfg", r"pool-purge-delay (\d+)s"),
        ("envoy.yaml", r"HttpProtocolOptions[\s\S]+?idle_timeout: (\d+)s"),
    ],
)
def test_a_proxy_lets_go_of_an_idle_connection_before_headway_does(file: str, pattern: str) -> None:
    found = re.findall(pattern, (DEPLOY / file).read_text())
    assert found
    assert all(int(text) < Settings().keep_alive for text in found)


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("nginx.conf", r"proxy_read_timeout (\d+)s"),
        ("haproxy.cfg", r"timeout (?:client|server) (\d+)s"),
        ("envoy.yaml", r"stream_idle_timeout: (\d+)s"),
    ],
)
def test_a_proxy_waits_for_three_pings_and_more(file: str, pattern: str) -> None:
    found = re.findall(pattern, (DEPLOY / file).read_text())
    assert found
    assert all(int(text) >= 3 * Settings().ping for text in found)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("unit", ["headway.service", "headway.socket"])
def test_the_units_of_systemd_are_right(unit: str, tmp_path: Path) -> None:
    for file in (DEPLOY / "systemd").iterdir():
        text = file.read_text().replace("/srv/headway/.venv/bin/headway", sys.executable)
        (tmp_path / file.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    about_it = [line for line in done.stderr.splitlines() if "headway" in line]
    assert (done.returncode, about_it) == (0, [])
