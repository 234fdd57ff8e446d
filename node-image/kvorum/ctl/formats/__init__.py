"""What commands show, in etcdctl's five formats: simple, fields, json, protobuf, table.

A command gives an answer: one of etcd's messages, or a value of `answers`. A format is a table from the type of an
answer to what writes it; where the type is not in it, the format is not supported, and the user is told so.
"""
