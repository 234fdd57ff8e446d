"""The StatefulSet of a cluster's members: what runs, on which volume, as which user, and how it is asked after. Pure.

OnDelete, because the operator decides which member goes next (followers first, the leader after a hand-over); Parallel,
because a member waits for its peers and not the other way round. What differs between members is in their files
(member_file.py) and never here (I7), so that a change of membership is no new revision of the pods.
"""

import math
from typing import Any

from kvorum_operator.api.overlay import (
    CONFIG_PATH,
    CONFIG_VOLUME,
    DATA_PATH,
    DATA_VOLUME,
    MEMBER,
    MERGED_LISTS,
)
from kvorum_operator.api.v1alpha1 import GROUP, Engine, KVCluster, Spec
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.images import Images, image_of
from kvorum_operator.objects.manifest import Manifest, manifest
from kvorum_operator.objects.member_file import Place, settings_mark
from kvorum_operator.objects.strategic_merge import merged
from kvorum_operator.objects.volume_claim import claim_spec

PLACE = Place(
    data_dir=f"{DATA_PATH}/data",  # below the volume's root, which is the kubelet's and may hold lost+found
    listen_client_url=f"http://0.0.0.0:{names.CLIENT_PORT}",
    listen_peer_url=f"http://0.0.0.0:{names.PEER_PORT}",
    listen_metrics_url=f"http://0.0.0.0:{names.METRICS_PORT}",
)
SETTINGS = f"{GROUP}/settings"  # annotation of a pod: the mark of the settings that it reads at its start
USER = 10_001
REQUESTS = {"cpu": "100m", "memory": "256Mi"}
START_S = 600  # a large database is read before a member listens
STOP_S_MIN = 30  # to hand over leadership, to answer what is under way and to close its files


def stateful_set(cluster: KVCluster, images: Images, replicas: int) -> Manifest:
    """replicas: how many pods there shall be now, which is the pass's to say and seldom spec.replicas."""
    name = cluster.metadata.name
    return manifest(
        "apps/v1",
        "StatefulSet",
        name,
        cluster,
        spec={
            "replicas": replicas,
            "serviceName": names.peers_service(name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            # A sleeping cluster is one scaled to none: with Delete its data would be gone.
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "selector": {"matchLabels": labels.members_of(name)},
            "template": pod_template(cluster, images),
            "volumeClaimTemplates": [claim_template(cluster.spec)],
        },
    )


def claim_template(spec: Spec) -> Manifest:
    """The operator makes members' claims itself; what is made by this is told by its label."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": DATA_VOLUME, "labels": {labels.FRESH: "true"}},
        "spec": claim_spec(spec),
    }


def pod_template(cluster: KVCluster, images: Images) -> Manifest:
    name, spec = cluster.metadata.name, cluster.spec
    return {
        "metadata": {
            "labels": {**spec.pod.metadata.labels, **labels.common(name)},
            "annotations": {
                "kubectl.kubernetes.io/default-container": MEMBER,
                **spec.pod.metadata.annotations,
                SETTINGS: settings_mark(spec.settings),
            },
        },
        # Fields first, then what is merged over them; what the operator relies on api/overlay.py keeps out of it.
        "spec": merged(pod_spec(cluster, images), spec.pod.overlay.get("spec", {}), MERGED_LISTS),
    }


def pod_spec(cluster: KVCluster, images: Images) -> Manifest:
    name, spec = cluster.metadata.name, cluster.spec
    found = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service named etcd would become ETCD_PORT, which etcd takes for a flag
        "terminationGracePeriodSeconds": stop_s(spec),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",  # else each start walks through all files
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            spread(name, "kubernetes.io/hostname"),
            spread(name, "topology.kubernetes.io/zone"),
        ],
        "containers": [container(spec, images)],
        # No emptyDir: drains would ask before they delete it, and autoscalers leave its machine alone. Neither engine
        # writes to anything but its data directory.
        "volumes": [{"name": CONFIG_VOLUME, "configMap": {"name": names.members_config(name)}}],
    }
    scheduling = spec.pod.scheduling
    if spec.pod.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": one.name} for one in spec.pod.image_pull_secrets]
    if scheduling.node_selector:
        found["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        found["tolerations"] = [one.model_dump(by_alias=True, exclude_none=True) for one in scheduling.tolerations]
    if scheduling.affinity:
        found["affinity"] = scheduling.affinity
    if scheduling.priority_class_name is not None:
        found["priorityClassName"] = scheduling.priority_class_name
    return found


def container(spec: Spec, images: Images) -> Manifest:
    found: Manifest = {
        "name": MEMBER,
        "image": image_of(spec, images),
        "command": ["etcd" if spec.engine is Engine.ETCD else "kvorum"],
        # A folder, not a single file: a file mounted by its path is never renewed.
        "args": [f"--config-file={CONFIG_PATH}/$(POD_NAME).yaml"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [
            {"name": "client", "containerPort": names.CLIENT_PORT},
            {"name": "peer", "containerPort": names.PEER_PORT},
            {"name": "metrics", "containerPort": names.METRICS_PORT},
        ],
        "resources": resources(spec),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Why a member ended is then in its pod's status: a sealed file's refusal is evidence (I8).
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # Long before a member is killed for being slow: a disk that hangs for a minute is no reason to lose a voter.
        "startupProbe": {**listens(), "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": START_S},
        "livenessProbe": {**listens(), "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": names.METRICS_PORT},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        "volumeMounts": [
            {"name": DATA_VOLUME, "mountPath": DATA_PATH},
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH, "readOnly": True},
        ],
    }
    if spec.pod.image_pull_policy is not None:
        found["imagePullPolicy"] = spec.pod.image_pull_policy.value
    return found


def listens() -> dict[str, Any]:
    """Plain TCP, to the port that is plain HTTP whatever TLS says of the others."""
    return {"tcpSocket": {"port": names.METRICS_PORT}}


def resources(spec: Spec) -> Manifest:
    """A request for what neither requests nor limits name; of a limit alone, Kubernetes makes the request too."""
    asked = spec.pod.resources
    requests = {**{key: value for key, value in REQUESTS.items() if key not in asked.limits}, **asked.requests}
    return {"requests": requests, **({"limits": dict(asked.limits)} if asked.limits else {})}


def spread(cluster: str, topology: str) -> Manifest:
    """As far as possible, and no further: a member that runs beside another is better than none."""
    return {
        "topologyKey": topology,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels.members_of(cluster)},
    }


def stop_s(spec: Spec) -> int:
    return max(STOP_S_MIN, STOP_S_MIN // 2 + 2 * math.ceil(spec.settings.election_timeout.seconds))
