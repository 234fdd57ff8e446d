"""Images: by engine and version, or as the specification names them."""

import pytest
from kvorum_operator.objects.images import Images, image_of

from tests.unit.kvorum_operator.objects.clusters import cluster


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ({}, "registry.example.com:5000/kvorum:0.1.0"),
        ({"version": "0.2.0"}, "registry.example.com:5000/kvorum:0.2.0"),
        ({"engine": "etcd"}, "quay.io/coreos/etcd:v3.5.30"),
        ({"engine": "etcd", "version": "3.5.21"}, "quay.io/coreos/etcd:v3.5.21"),
        ({"engine": "etcd", "version": "v3.5.21"}, "quay.io/coreos/etcd:v3.5.21"),
        ({"engine": "etcd", "version": "3.5.21", "pod": {"image": "mine/etcd:x"}}, "mine/etcd:x"),
        ({"pod": {"image": "mine@sha256:" + "0" * 64}}, "mine@sha256:" + "0" * 64),
    ],
)
def test_image_follows_from_engine_and_version_unless_it_is_named(spec: dict[str, object], image: str) -> None:
    assert image_of(cluster(**spec).spec, Images("registry.example.com:5000/kvorum:0.1.0")) == image


@pytest.mark.parametrize(
    ("default", "repository"),
    [
        ("kvorum", "kvorum"),
        ("kvorum:1", "kvorum"),
        ("localhost:5000/a/kvorum", "localhost:5000/a/kvorum"),
        ("localhost:5000/a/kvorum:1", "localhost:5000/a/kvorum"),
        ("a/kvorum@sha256:" + "0" * 64, "a/kvorum"),
        ("localhost:5000/kvorum:1@sha256:" + "0" * 64, "localhost:5000/kvorum"),
    ],
)
def test_version_takes_the_place_of_tag_and_digest(default: str, repository: str) -> None:
    assert image_of(cluster(version="2").spec, Images(default)) == f"{repository}:2"
