"""What tests start and talk to: real etcds, nodes, etcdctl. Knows no test."""
