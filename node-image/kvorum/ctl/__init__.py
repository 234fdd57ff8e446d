"""`kvorumctl`: etcdctl 3.5's commands, flags, environment, output and exit codes, for machines without etcdctl.

Uses kvorum.client and etcd's messages, and knows nothing of a server. What it prints is compared with a real etcdctl's,
byte by byte (tests/compat/test_kvorumctl.py); where the two differ on purpose docs/kvorumctl.md says so.
"""
