"""Kubernetes as a platform of the pass: members are pods of a StatefulSet, volumes are PersistentVolumeClaims."""
