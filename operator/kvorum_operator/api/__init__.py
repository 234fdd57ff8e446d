"""The KVCluster resource: its models, the closed set of its reasons, and the CRD that is generated from them."""
