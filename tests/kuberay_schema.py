"""The part of KubeRay's and Kubernetes' API that the manifests use, and a checker of it.

Field names and types are facts of KubeRay v1.7.0 (custom resource definitions of ray.io/v1,
RayJob and RayCluster) and of Kubernetes core/v1. A field that is not written down here is an error, so a
manifest that needs another one brings its line along, looked up there.
"""

from collections.abc import Mapping
from typing import Any

TEXTS = "texts"  # a mapping of strings
QUANTITY = "quantity"  # a number or a string such as 500m or 64Gi
Shape = Mapping[
    str, Any
]  # a field's type: a Python type, one of the above, the name of a kind, [type]

KINDS: dict[str, Shape] = {
    "RayJob": {"apiVersion": str, "kind": str, "metadata": "Metadata", "spec": "RayJobSpec"},
    "RayCluster": {
        "apiVersion": str,
        "kind": str,
        "metadata": "Metadata",
        "spec": "RayClusterSpec",
    },
    "Metadata": {"name": str, "namespace": str, "labels": TEXTS, "annotations": TEXTS},
    "RayJobSpec": {
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "entrypoint": str,
        "rayClusterSpec": "RayClusterSpec",
        "runtimeEnvYAML": str,
        "shutdownAfterJobFinishes": bool,
        "submissionMode": str,
        "submitterPodTemplate": "PodTemplate",
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
    },
    "RayClusterSpec": {
        "authOptions": "AuthOptions",
        "autoscalerOptions": "AutoscalerOptions",
        "enableInTreeAutoscaling": bool,
        "headGroupSpec": "HeadGroup",
        "rayVersion": str,
        "suspend": bool,
        "workerGroupSpecs": ["WorkerGroup"],
    },
    "AuthOptions": {"mode": str, "secretName": str, "enableK8sTokenAuth": bool},
    "AutoscalerOptions": {
        "env": ["EnvVar"],
        "idleTimeoutSeconds": int,
        "image": str,
        "resources": "Resources",
        "securityContext": "ContainerSecurity",
        "upscalingMode": str,
        "version": str,
    },
    "HeadGroup": {
        "labels": TEXTS,
        "rayStartParams": TEXTS,
        "resources": TEXTS,
        "serviceType": str,
        "template": "PodTemplate",
    },
    "WorkerGroup": {
        "groupName": str,
        "idleTimeoutSeconds": int,
        "labels": TEXTS,
        "maxReplicas": int,
        "minReplicas": int,
        "numOfHosts": int,
        "priority": int,
        "rayStartParams": TEXTS,
        "replicas": int,
        "resources": TEXTS,
        "template": "PodTemplate",
    },
    "PodTemplate": {"metadata": "Metadata", "spec": "PodSpec"},
    "PodSpec": {
        "containers": ["Container"],
        "nodeSelector": TEXTS,
        "restartPolicy": str,
        "securityContext": "PodSecurity",
        "tolerations": ["Toleration"],
        "volumes": ["Volume"],
    },
    "PodSecurity": {
        "fsGroup": int,
        "fsGroupChangePolicy": str,
        "runAsGroup": int,
        "runAsNonRoot": bool,
        "runAsUser": int,
        "seccompProfile": "Seccomp",
    },
    "Seccomp": {"type": str},
    "Container": {
        "args": [str],
        "command": [str],
        "env": ["EnvVar"],
        "image": str,
        "livenessProbe": "Probe",
        "name": str,
        "ports": ["Port"],
        "readinessProbe": "Probe",
        "resources": "Resources",
        "securityContext": "ContainerSecurity",
        "volumeMounts": ["Mount"],
        "workingDir": str,
    },
    "ContainerSecurity": {"allowPrivilegeEscalation": bool, "capabilities": "Capabilities"},
    "Capabilities": {"add": [str], "drop": [str]},
    "EnvVar": {"name": str, "value": str, "valueFrom": "EnvSource"},
    "EnvSource": {"secretKeyRef": "SecretKey"},
    "SecretKey": {"key": str, "name": str, "optional": bool},
    "Port": {"containerPort": int, "name": str},
    "Resources": {"limits": QUANTITY + "s", "requests": QUANTITY + "s"},
    "Probe": {
        "failureThreshold": int,
        "httpGet": "HttpGet",
        "initialDelaySeconds": int,
        "periodSeconds": int,
        "timeoutSeconds": int,
    },
    "HttpGet": {"path": str, "port": int},
    "Mount": {"mountPath": str, "name": str, "readOnly": bool},
    "Toleration": {"effect": str, "key": str, "operator": str},
    "Volume": {"emptyDir": "EmptyDir", "name": str, "persistentVolumeClaim": "ClaimSource"},
    "EmptyDir": {"medium": str, "sizeLimit": QUANTITY},
    "ClaimSource": {"claimName": str, "readOnly": bool},
    "PersistentVolumeClaim": {
        "apiVersion": str,
        "kind": str,
        "metadata": "Metadata",
        "spec": "ClaimSpec",
    },
    "ClaimSpec": {"accessModes": [str], "resources": "Resources", "storageClassName": str},
}
REQUIRED: dict[str, set[str]] = {
    "RayClusterSpec": {"headGroupSpec"},
    "HeadGroup": {"template"},
    "WorkerGroup": {"groupName", "minReplicas", "maxReplicas", "template"},
    "PodSpec": {"containers"},
    "Container": {"name"},
    "EnvVar": {"name"},
    "SecretKey": {"key"},
    "Port": {"containerPort"},
    "HttpGet": {"port"},
    "Mount": {"mountPath", "name"},
    "Volume": {"name"},
    "ClaimSource": {"claimName"},
    "Seccomp": {"type"},
}
CHOICES: dict[tuple[str, str], set[str]] = {
    ("AuthOptions", "mode"): {"token", "disabled"},
    ("AutoscalerOptions", "version"): {"v1", "v2"},
    ("AutoscalerOptions", "upscalingMode"): {"Default", "Aggressive", "Conservative"},
    ("PodSpec", "restartPolicy"): {"Always", "OnFailure", "Never"},
    ("PodSecurity", "fsGroupChangePolicy"): {"Always", "OnRootMismatch"},
    ("Seccomp", "type"): {"RuntimeDefault", "Unconfined", "Localhost"},
    ("Toleration", "operator"): {"Exists", "Equal"},
    ("Toleration", "effect"): {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    ("EmptyDir", "medium"): {"", "Memory"},
}


def problems(value: Any, shape: Any, where: str) -> list[str]:
    """What is wrong with a value of a manifest, each as ``where: what``."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where}: a list is wanted, not {value!r}"]
        return [
            p for i, item in enumerate(value) for p in problems(item, shape[0], f"{where}[{i}]")
        ]
    if shape in (TEXTS, QUANTITY + "s"):
        if not isinstance(value, dict):
            return [f"{where}: a mapping is wanted, not {value!r}"]
        inner = str if shape == TEXTS else QUANTITY
        return [p for key, item in value.items() for p in problems(item, inner, f"{where}.{key}")]
    if shape == QUANTITY:
        good = isinstance(value, int | float | str) and not isinstance(value, bool)
        return [] if good else [f"{where}: a quantity is wanted, not {value!r}"]
    if isinstance(shape, type):
        # In Python, but not in YAML, true is an integer.
        good = type(value) is shape
        return [] if good else [f"{where}: {shape.__name__} is wanted, not {value!r}"]
    if not isinstance(value, dict):
        return [f"{where}: a {shape} is wanted, not {value!r}"]
    fields = KINDS[shape]
    found = [f"{where}.{key}: {shape} has no such field" for key in value.keys() - fields.keys()]
    found += [f"{where}: {key} is missing" for key in REQUIRED.get(shape, set()) - value.keys()]
    for key in fields.keys() & value.keys():
        found += problems(value[key], fields[key], f"{where}.{key}")
        choices = CHOICES.get((shape, key))
        if choices is not None and value[key] not in choices:
            found.append(f"{where}.{key}: {value[key]!r} is none of {sorted(choices)}")
    return sorted(found)
