"""Which image members run: by the engine and spec.version, unless spec.pod.image names one. Pure."""

from dataclasses import dataclass

from kvorum_operator.api.v1alpha1 import Engine, Spec

ETCD_VERSION = "3.5.30"  # what a cluster of engine etcd runs when spec.version is absent


@dataclass(frozen=True, slots=True)
class Images:
    """The operator's defaults, as it was installed. kvorum: with its tag or digest; etcd_repository: without."""

    kvorum: str
    etcd_repository: str = "quay.io/coreos/etcd"

    @property
    def kvorum_repository(self) -> str:
        return repository_of(self.kvorum)


def image_of(spec: Spec, images: Images) -> str:
    if spec.pod.image is not None:
        return spec.pod.image
    if spec.engine is Engine.ETCD:
        return f"{images.etcd_repository}:{etcd_tag(spec.version or ETCD_VERSION)}"
    return images.kvorum if spec.version is None else f"{images.kvorum_repository}:{spec.version}"


def etcd_tag(version: str) -> str:
    """etcd's images are tagged with a v before the version, which few write."""
    return f"v{version}" if version[0].isdigit() else version


def repository_of(image: str) -> str:
    """An image's name without tag and digest. A colon before the last slash is a registry's port."""
    name, _, _ = image.partition("@")
    path, slash, last = name.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"
