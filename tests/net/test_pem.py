"""What is wrong with a PEM file."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.net.pem import lacking

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("text", "needed", "said"),
    [
        (CERTIFICATE, "CERTIFICATE", ""),
        (KEY + CERTIFICATE, "CERTIFICATE", ""),
        (KEY + CERTIFICATE, "PRIVATE KEY", ""),
        (KEY, "PRIVATE KEY", ""),
        (KEY, "CERTIFICATE", "no certificate in it, but a private key"),
        (CERTIFICATE, "PRIVATE KEY", "no private key in it, but a certificate"),
        (CERTIFICATE[:40], "CERTIFICATE", "a certificate in it has no end: the file is cut"),
        (KEY[:40], "PRIVATE KEY", "a private key in it has no end: the file is cut"),
        ("-----BEGIN X509 CRL-----\n", "CERTIFICATE", "no certificate in it, but a X509 CRL"),
        (" \n", "CERTIFICATE", "it is empty"),
        ("hello", "CERTIFICATE", "no PEM data here"),
        ("0\x03hi", "CERTIFICATE", "but DER"),
    ],
)
def test_what_a_file_lacks_is_said(tmp_path: Path, text: str, needed: str, said: str) -> None:
    path = tmp_path / "x.pem"
    path.write_text(text)
    found = lacking(path, needed)
    assert said in found if said else not found


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert lacking(tmp_path / "nope", "CERTIFICATE") == "No such file or directory"
