# An image in which there is no member: whatever starts it is told so.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
USER 10001:10001
ENTRYPOINT ["no-such-program"]
