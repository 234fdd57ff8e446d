"""Protocols as bytes in and bytes out: HTTP/2 with HPACK, HTTP/1.1, gRPC. No sockets, no clock, no etcd."""
