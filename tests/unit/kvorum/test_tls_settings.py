"""Go's names of cipher suites and versions, as OpenSSL has them."""

import ssl

import pytest
from kvorum.flags import Invalid
from kvorum.tls_settings import _CIPHERS, TlsRules, read_rules

HTTP2 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"


@pytest.mark.parametrize("suite", [name for name, openssl in _CIPHERS.items() if openssl])
def test_every_name_is_one_that_openssl_knows(suite: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    name = _CIPHERS[suite]
    context.set_ciphers(name)
    assert name in [cipher["name"] for cipher in context.get_ciphers()]


def test_suites_are_taken_in_order_and_once() -> None:
    suites = ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", HTTP2, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]
    assert read_rules("TLS1.2", "", suites) == TlsRules(
        "TLS1.2", "", ("ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256")
    )


def test_suites_of_tls_1_3_are_no_choice_and_no_mistake() -> None:
    assert read_rules("", "", ["TLS_AES_128_GCM_SHA256", HTTP2]).ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)


@pytest.mark.parametrize(
    ("suites", "words"),
    [
        (["TLS_AES_128_GCM_SHA256"], "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256"),
        (["TLS_RSA_WITH_AES_256_GCM_SHA384"], "http2: TLSConfig.CipherSuites is missing an HTTP/2-required"),
        ([HTTP2, "TLS_RSA_WITH_RC4_128_SHA"], "too weak for OpenSSL"),
        ([HTTP2, "tls_ecdhe_rsa_with_aes_128_gcm_sha256"], "unexpected TLS cipher suite"),
        ([HTTP2, "ECDHE-RSA-AES128-GCM-SHA256"], "unexpected TLS cipher suite"),
        ([HTTP2, "!aNULL:ALL"], "unexpected TLS cipher suite"),
    ],
)
def test_suites_without_which_nothing_works_and_unknown_ones_are_refused(suites: list[str], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read_rules("TLS1.2", "", suites)
