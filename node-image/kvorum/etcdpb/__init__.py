"""Generated protobuf modules (`make generate`): rpc_pb2 for clients, internal_pb2 for entries, raft_pb2 for members.

Package `kvorum.etcdpb`, so that another library with etcd's own package names stays importable beside it.
"""
