"""Kvorum's operator: a KVCluster document becomes a running cluster and follows its edits."""
