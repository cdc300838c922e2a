"""The cluster manifests: valid, complete, hardened, without secrets."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kustomize import by_key, compose, containers, having_pods, key_of, labels_of, pod_of, read_env

import ddm_core

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "deploy"
KUSTOMIZATIONS = sorted(DEPLOY.rglob("kustomization.yaml"))
SCHEMA = json.loads((Path(__file__).parent / "kustomization.schema.json").read_text())
KUBERNETES_VERSIONS = ("1.30", kubernetes_validate.latest_version())


def build_command():
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            return command
    pytest.skip("neither kubectl nor kustomize is installed")


def test_our_composition_is_what_kustomize_builds(example, manifests):
    built = subprocess.run([*build_command(), example], capture_output=True, text=True, check=True).stdout
    theirs = by_key(yaml.safe_load_all(built))
    for manifest in theirs.values():
        if manifest["kind"] == "Secret":
            data = manifest.pop("data")
            manifest["stringData"] = {key: base64.b64decode(value).decode() for key, value in data.items()}
            del manifest["type"]
    assert theirs == by_key(manifests)


def test_a_missing_secret_file_is_an_error(example, tmp_path):
    copied = shutil.copytree(example.parent, tmp_path / "deploy")
    (copied / "example" / "runs" / "secrets.env").unlink()
    with pytest.raises(FileNotFoundError, match=r"secrets\.env"):
        compose(copied / "example")


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: str(path.parent.relative_to(DEPLOY)))
def test_a_kustomization_is_valid(path):
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)


def test_a_kustomization_with_a_typo_is_refused():
    content = yaml.safe_load(KUSTOMIZATIONS[0].read_text()) | {"nameSpace": "ddm"}
    with pytest.raises(jsonschema.ValidationError, match="nameSpace"):
        jsonschema.validate(content, SCHEMA)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_manifest_is_valid(manifests, version):
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_with_a_typo_is_refused(manifests):
    deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSIONS[0], strict=True)


def test_every_manifest_file_is_part_of_the_example():
    reached, pending = set(), [DEPLOY / "example"]
    while pending:
        path = pending.pop().resolve()
        reached.add(path)
        if path.is_dir():
            reached.add(path / "kustomization.yaml")
            content = yaml.safe_load((path / "kustomization.yaml").read_text())
            pending += [path / name for name in content["resources"]]
    assert set(DEPLOY.rglob("*.yaml")) <= reached


def test_no_two_manifests_have_one_name(manifests):
    assert len(by_key(manifests)) == len(manifests)


def test_git_takes_no_filled_in_secret(example, tmp_path):
    filled = shutil.copytree(example.parent, tmp_path / "deploy")
    assert len(list(filled.rglob("secrets.env"))) == 2

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=filled, capture_output=True, text=True, check=True
        ).stdout

    git("init", "--quiet")
    git("add", "--all")
    taken = git("ls-files").split()
    assert "example/runs/secrets.env.template" in taken
    assert [path for path in taken if path.endswith("secrets.env")] == []


def test_git_holds_no_secret():
    for template in DEPLOY.rglob("*.template"):
        assert set(read_env(template).values()) == {""}, template
    for path in DEPLOY.rglob("*.yaml"):
        assert "Secret" not in {manifest["kind"] for manifest in yaml.safe_load_all(path.read_text())}, path


def test_settings_hold_no_password():
    for path in DEPLOY.rglob("settings.env"):
        for key, value in read_env(path).items():
            assert re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", key) is None, path
            assert re.search(r"://[^/]*:[^/]*@", value) is None, path


def test_whatever_a_pod_names_exists(manifests):
    known = by_key(manifests)
    for manifest in having_pods(manifests):
        namespace, pod = manifest["metadata"]["namespace"], pod_of(manifest)
        assert ("ServiceAccount", namespace, pod["serviceAccountName"]) in known
        claims = [claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])]
        volumes = {*claims, *(volume["name"] for volume in pod.get("volumes", []))}
        for container in containers(manifest):
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            for source in container.get("envFrom", []):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if field in source:
                        assert (kind, namespace, source[field]["name"]) in known
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    secret = known["Secret", namespace, reference["name"]]
                    assert reference["key"] in secret["stringData"]


def test_a_variable_in_a_command_comes_from_the_containers_settings(manifests):
    known = by_key(manifests)
    upgrade = known["CronJob", "ddm", "mlflow-database-upgrade"]
    (container,) = containers(upgrade)
    names = re.findall(r"\$\((\w+)\)", " ".join(container["command"]))
    assert names == ["MLFLOW_BACKEND_STORE_URI"]
    assert set(names) <= set(known["ConfigMap", "ddm", "mlflow"]["data"])
    assert upgrade["spec"]["suspend"], "an upgrade is for people to start"


def test_a_role_binding_binds_what_exists(manifests):
    known = by_key(manifests)
    bindings = [manifest for manifest in manifests if manifest["kind"] == "RoleBinding"]
    assert {binding["metadata"]["name"] for binding in bindings} == {"ddm-submitter", "ddm-runner"}
    for binding in bindings:
        assert ("Role", binding["metadata"]["namespace"], binding["roleRef"]["name"]) in known
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["namespace"], subject["name"]) in known


def test_no_role_may_everything(manifests):
    roles = [manifest for manifest in manifests if manifest["kind"].endswith("Role")]
    for rule in [rule for role in roles for rule in role["rules"]]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"]


def test_services_and_network_policies_select_pods_and_ports(manifests):
    for manifest in manifests:
        if manifest["kind"] not in ("Service", "NetworkPolicy"):
            continue
        selector = manifest["spec"].get("selector") or manifest["spec"]["podSelector"]["matchLabels"]
        pods = [
            candidate
            for candidate in having_pods(manifests)
            if selector.items() <= labels_of(candidate).items()
            and candidate["metadata"]["namespace"] == manifest["metadata"]["namespace"]
        ]
        assert len(pods) == 1, key_of(manifest)
        ports = containers(pods[0])[0]["ports"]
        if manifest["kind"] == "Service":
            wanted, has = [port["targetPort"] for port in manifest["spec"]["ports"]], "name"
        else:
            rules = manifest["spec"]["ingress"]
            wanted, has = [port["port"] for rule in rules for port in rule["ports"]], "containerPort"
        assert wanted == [port[has] for port in ports]


def test_pods_run_with_the_least_rights(manifests):
    for manifest in having_pods(manifests):
        pod = pod_of(manifest)
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(manifest):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_containers_say_what_they_need_and_at_most_take(manifests):
    for manifest in having_pods(manifests):
        for container in containers(manifest):
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) == {"cpu", "memory"}, key_of(manifest)


def test_images_are_pinned_and_ours_has_this_version(manifests):
    images = {container["image"] for manifest in manifests for container in containers(manifest)}
    assert len(images) == 2
    for image in images:
        tag = re.fullmatch(r"[a-z0-9.-]+/[\w./-]+(?::([\w.-]+)|@sha256:[0-9a-f]{64})", image)[1]
        assert tag != "latest"
        assert re.search(r"\d+\.\d+", tag or "0.0"), image
    assert f"registry.example.com/ddm-pipeline:{ddm_core.__version__}" in images
    ours = {
        container["image"]
        for manifest in compose(DEPLOY / "base" / "mlflow")
        for container in containers(manifest)
    }
    assert ours == {f"localhost/ddm-pipeline:{ddm_core.__version__}"}
