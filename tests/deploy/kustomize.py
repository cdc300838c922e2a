"""Composes a kustomization as `kustomize build` does, as far as deploy/ uses it. Not every machine has it."""

import yaml

KINDS_WITHOUT_NAMESPACE = ("Namespace", "ClusterRole", "ClusterRoleBinding")


def compose(folder):
    """Return the manifests of `folder`: its resources, then what its generators make."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    manifests = [
        manifest for name in kustomization["resources"] for manifest in _resource(folder / name)
    ] + _generated(folder, kustomization)
    for manifest in manifests:
        if "namespace" in kustomization and manifest["kind"] not in KINDS_WITHOUT_NAMESPACE:
            _place(manifest, kustomization["namespace"])
        for container in containers(manifest):
            container["image"] = _image(container["image"], kustomization.get("images", []))
    return manifests


def read_env(path):
    """Return the entries of a file of `KEY=value` lines; `#` begins a comment."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def pod_of(manifest):
    """Return the pod specification in a manifest, or None."""
    return _pod_template(manifest).get("spec")


def labels_of(manifest):
    """Return the labels of the pods that a manifest makes."""
    return _pod_template(manifest).get("metadata", {}).get("labels", {})


def containers(manifest):
    """Return the containers of a manifest's pod, the initial ones too."""
    pod = pod_of(manifest) or {}
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def key_of(manifest):
    """Return kind, namespace and name."""
    return manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"]


def by_key(manifests):
    """Return the manifests under their kind, namespace and name."""
    return {key_of(manifest): manifest for manifest in manifests}


def having_pods(manifests):
    """Return the manifests that make pods."""
    return [manifest for manifest in manifests if pod_of(manifest)]


def _resource(path):
    if path.is_dir():
        return compose(path)
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest]


def _generated(folder, kustomization):
    kinds = {"configMapGenerator": ("ConfigMap", "data"), "secretGenerator": ("Secret", "stringData")}
    return [
        {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": generator["name"]},
            field: {
                key: value for name in generator["envs"] for key, value in read_env(folder / name).items()
            },
        }
        for section, (kind, field) in kinds.items()
        for generator in kustomization.get(section, [])
    ]


def _place(manifest, namespace):
    manifest["metadata"]["namespace"] = namespace
    for subject in manifest.get("subjects", []):
        subject["namespace"] = namespace


def _image(image, replacements):
    name, _, tag = image.rpartition(":")
    for replacement in replacements:
        if replacement["name"] == name:
            name = replacement.get("newName", name)
            if "digest" in replacement:
                return f"{name}@{replacement['digest']}"
            return f"{name}:{replacement.get('newTag', tag)}"
    return image


def _pod_template(manifest):
    specification = manifest.get("spec", {})
    if manifest["kind"] == "CronJob":
        specification = specification["jobTemplate"]["spec"]
    return specification.get("template", {})
