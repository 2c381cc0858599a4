"""deploy/ is valid by the tools of those who read it, closed by default, and true to the verbs."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from pipeline.cli import main

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
HEADS = DEPLOY / "kubernetes" / "heads"
COMPOSE = ("compose.yaml", "compose.cuda.yaml", "compose.heads.yaml")
# From the first version whose preStop can sleep by itself.
KUBERNETES = ("1.30", "1.33", kubernetes_validate.latest_version())
IMAGE = re.compile(r"[\w./-]+:\d+(\.\d+)+(-\w+)?")
Tree = dict[str, Any]


def compose() -> Tree:
    tree: Tree = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return tree


def resources() -> dict[tuple[str, str], Tree]:
    """Everything that is applied, by kind and name; the engine for heads too."""
    found = {}
    for place in (*MANIFESTS, HEADS / "heads.yaml"):
        if place.name not in {"kustomization.yaml", "secret.template.yaml"}:
            for tree in yaml.safe_load_all(place.read_text()):
                found[tree["kind"], tree["metadata"]["name"]] = tree
    return found


def pods() -> Iterator[tuple[str, Tree, Tree]]:
    """Name, pod and container, for each container of it."""
    for (kind, name), tree in resources().items():
        if kind == "Deployment":
            pod = tree["spec"]["template"]["spec"]
            for container in (*pod["containers"], *pod.get("initContainers", ())):
                yield name, pod, container


def pod(name: str) -> tuple[Tree, Tree]:
    """A pod and its main container."""
    return next((p, c) for found, p, c in pods() if found == name)


# ---- valid


def checked(place: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(place)]
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_file_is_what_the_compose_specification_says(name: str, tmp_path: Path) -> None:
    done = checked(DEPLOY / name)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / name
    broken.write_text((DEPLOY / name).read_text().replace("services:", "servises:", 1))
    assert checked(broken).returncode == 1


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_are_what_the_api_takes_and_nothing_beyond(version: str) -> None:
    for tree in resources().values():
        kubernetes_validate.validate(tree, version, strict=True)
    broken = copy.deepcopy(resources()["Deployment", "gradus-gateway"])
    broken["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_every_manifest_is_applied_but_the_secret() -> None:
    tree = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    left_out = {"kustomization.yaml", "secret.template.yaml"}
    assert set(tree["resources"]) == {place.name for place in MANIFESTS} - left_out


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
@pytest.mark.parametrize("components", [[], ["heads"]])
def test_kustomize_renders_it_and_the_result_is_valid(
    components: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "kubernetes"
    shutil.copytree(DEPLOY / "kubernetes", place)
    with (place / "kustomization.yaml").open("a") as file:
        yaml.safe_dump({"components": components}, file)
    done = subprocess.run(
        ["kubectl", "kustomize", place], capture_output=True, text=True, check=True
    )
    rendered = list(yaml.safe_load_all(done.stdout))
    for tree in rendered:
        kubernetes_validate.validate(tree, KUBERNETES[-1], strict=True)
        if tree["kind"] != "Namespace":
            assert tree["metadata"]["namespace"] == "gradus"
    found = {(tree["kind"], tree["metadata"]["name"]): tree for tree in rendered}
    (config,) = [name for kind, name in found if kind == "ConfigMap"]
    engines = ["gradus-engine", *(f"gradus-{each}" for each in components)]
    deployments = {name for kind, name in found if kind == "Deployment"}
    assert deployments == {"gradus-gateway", *engines}
    # Its own, and each deployment's.
    assert done.stdout.count(config) == 1 + len(deployments)
    pod = found["Deployment", "gradus-gateway"]["spec"]["template"]["spec"]
    urls = [f"http://{engine}:8001" for engine in engines]
    assert list(given(("serve",), pod["containers"][0]["args"])["engine_urls"]) == urls
    assert pod["initContainers"][0]["args"] == [f"{url}/health" for url in urls]


# ---- closed


def test_images_have_a_version_and_ours_is_that_of_the_package() -> None:
    from importlib.metadata import version

    images = [service["image"] for service in compose()["services"].values()]
    images += [container["image"] for _, _, container in pods()]
    kustomized = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    images += [f"{image['newName']}:{image['newTag']}" for image in kustomized["images"]]
    for image in images:
        assert IMAGE.fullmatch(image), image
        if "gradus-" in image:
            assert image.rpartition(":")[2] == version("gradus")
    for place in (*MANIFESTS, *(DEPLOY / name for name in COMPOSE)):
        assert "latest" not in place.read_text()


def test_no_service_of_compose_has_a_right_that_it_does_not_need() -> None:
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(service), name
        assert service["mem_limit"]
        for volume in service["volumes"]:
            assert volume["type"] == "volume" or volume["read_only"], name


def test_no_pod_has_a_right_that_it_does_not_need() -> None:
    for name, pod, container in pods():
        assert pod["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"memory"} <= set(container["resources"]["limits"]), name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert not any("hostPath" in volume for volume in pod["volumes"])


def test_engine_is_on_the_inner_network_alone() -> None:
    tree = compose()
    assert tree["networks"]["inside"] == {"internal": True}
    assert tree["services"]["engine"]["networks"] == ["inside"]
    assert "ports" not in tree["services"]["engine"]
    published = [port for s in tree["services"].values() for port in s.get("ports", ())]
    assert published == ["127.0.0.1:8000:8000"]


def test_only_the_gateway_reaches_the_engine_and_the_engine_reaches_nobody() -> None:
    policy = resources()["NetworkPolicy", "gradus-engine"]["spec"]
    component = {"app.kubernetes.io/component": "engine"}
    deployments = {name: tree for (kind, name), tree in resources().items() if kind == "Deployment"}
    labels = {
        name: tree["spec"]["template"]["metadata"]["labels"] for name, tree in deployments.items()
    }
    assert policy["podSelector"]["matchLabels"] == component
    engines = {name for name, found in labels.items() if component.items() <= found.items()}
    assert engines == {"gradus-engine", "gradus-heads"}
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    assert peer == {"podSelector": {"matchLabels": labels["gradus-gateway"]}}
    assert rule["ports"] == [{"protocol": "TCP", "port": 8001}]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    for kind in ("Service", "PodDisruptionBudget"):
        for name in deployments:
            chosen = resources()[kind, name]["spec"]["selector"]
            # One name, one deployment: no selector takes in another's pods.
            one = {"app.kubernetes.io/name": name}
            assert chosen.get("matchLabels", chosen) == one
            assert one.items() <= labels[name].items()
    gateway = resources()["NetworkPolicy", "gradus-gateway"]["spec"]
    assert gateway["podSelector"]["matchLabels"] == labels["gradus-gateway"]
    assert gateway["egress"][0]["to"] == [{"podSelector": {"matchLabels": component}}]


def test_secret_template_holds_no_secret_and_has_every_key_that_is_asked_for() -> None:
    text = (DEPLOY / "kubernetes" / "secret.template.yaml").read_text()
    template = yaml.safe_load(text)
    kubernetes_validate.validate(template, KUBERNETES[-1], strict=True)
    assert set(template["stringData"].values()) == {""}
    _, gateway = pod("gradus-gateway")
    asked = {ref["key"] for env in gateway["env"] if (ref := env["valueFrom"].get("secretKeyRef"))}
    volumes = {v["name"]: v for v in pod("gradus-gateway")[0]["volumes"]}
    asked |= {item["key"] for item in volumes["keys"]["secret"]["items"]}
    assert asked == set(template["stringData"])
    assert all(
        f"--from-{way}" in text
        for way in ("file=keys.json", "literal=usage-url", "literal=engine-key")
    )


def test_key_file_is_mounted_as_a_folder_so_that_a_replaced_one_is_seen() -> None:
    # A bind of one file, and a subPath, stay at the old inode.
    keys = [v for v in compose()["services"]["gateway"]["volumes"] if v["target"] == "/keys"]
    assert keys == [{"type": "bind", "source": "./keys", "target": "/keys", "read_only": True}]
    _, gateway = pod("gradus-gateway")
    (mount,) = [m for m in gateway["volumeMounts"] if m["name"] == "keys"]
    assert mount == {"name": "keys", "mountPath": "/keys", "readOnly": True}


# ---- true to the verbs


VERBS = pytest.mark.parametrize(
    ("name", "path"), [("engine", ("engine", "start")), ("gateway", ("serve",))]
)


def verb(*path: str) -> click.Command:
    found: click.Command = main
    for name in path:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return found


def given(path: tuple[str, ...], words: list[str]) -> Tree:
    """What a verb reads from a container's arguments, by click itself."""
    entry = ["--host", "0.0.0.0"]  # noqa: S104 -- as the image's entry point has it
    return verb(*path).make_context("gradus", [*entry, *words]).params


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


@VERBS
def test_arguments_are_options_of_the_verb_and_the_drain_ends_before_the_kill(
    name: str, path: tuple[str, ...]
) -> None:
    service = compose()["services"][name]
    assert given(path, service["command"])["drain_seconds"] < seconds(service["stop_grace_period"])
    spec, container = pod(f"gradus-{name}")
    drain = given(path, container["args"])["drain_seconds"]
    slept = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert slept + drain < spec["terminationGracePeriodSeconds"]


@VERBS
def test_ports_are_those_that_the_verb_listens_on(name: str, path: tuple[str, ...]) -> None:
    _, container = pod(f"gradus-{name}")
    (port,) = container["ports"]
    assert given(path, container["args"])["port"] == port["containerPort"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
    (service,) = resources()["Service", f"gradus-{name}"]["spec"]["ports"]
    assert service["targetPort"] == port["name"]


def test_gateway_is_told_the_address_that_the_engine_has() -> None:
    told = given(("serve",), compose()["services"]["gateway"]["command"])
    assert list(told["engine_urls"]) == ["http://engine:8001"]
    told = given(("serve",), pod("gradus-gateway")[1]["args"])
    assert list(told["engine_urls"]) == ["http://gradus-engine:8001"]
    assert ("Service", "gradus-engine") in resources()


def test_probes_ask_for_life_and_for_readiness_apart() -> None:
    _, engine = pod("gradus-engine")
    _, gateway = pod("gradus-gateway")
    kinds = ("startupProbe", "livenessProbe", "readinessProbe")
    assert [engine[kind]["httpGet"]["path"] for kind in kinds] == ["/health"] * 3
    assert [gateway[kind]["httpGet"]["path"] for kind in kinds] == [
        "/healthz",
        "/healthz",
        "/readyz",
    ]
