"""Who members are and who may reach them: an account without any rights, and a NetworkPolicy. Pure."""

from kvorum_operator.api.v1alpha1 import KVCluster
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.manifest import Manifest, manifest


def service_account(cluster: KVCluster) -> Manifest:
    """Members ask nothing of the API server, so they get no token either."""
    return manifest("v1", "ServiceAccount", cluster.metadata.name, cluster, automountServiceAccountToken=False)


def network_policy(cluster: KVCluster, template: Manifest) -> Manifest:
    """Peers only from the same cluster: who may speak Raft's protocol may change everything. All else from anywhere.

    template: the pods' template, for the ports of containers that an overlay adds. What members reach is not limited.
    """
    members = {"matchLabels": labels.members_of(cluster.metadata.name)}
    return manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        cluster.metadata.name,
        cluster,
        spec={
            "podSelector": members,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"port": names.PEER_PORT, "protocol": "TCP"}], "from": [{"podSelector": members}]},
                {"ports": open_ports(template)},
            ],
        },
    )


def open_ports(template: Manifest) -> list[Manifest]:
    spec = template["spec"]
    ports = [
        (port["containerPort"], port.get("protocol", "TCP"))
        for container in (*spec["containers"], *spec.get("initContainers", ()))
        for port in container.get("ports", ())
        if port["containerPort"] != names.PEER_PORT
    ]
    return [{"port": port, "protocol": protocol} for port, protocol in sorted(set(ports))]
