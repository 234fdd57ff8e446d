# A real etcd for the tests: the programs of Debian's packages (tests/kit/etcd.py), which lie beside this file in the context.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
COPY etcd etcdctl etcdutl /usr/local/bin/
USER 10001:10001
EXPOSE 2379 2380 2381
ENTRYPOINT []
CMD ["etcd"]
