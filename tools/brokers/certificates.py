"""Certificates for tests: an authority, a server and a client that it vouches for, and one that nobody knows.

Law: made by `openssl` in a folder of their own; PEM, worth nothing anywhere else.
"""

from __future__ import annotations

import subprocess
from pathlib import Path


def make(folder: Path) -> Path:
    """Make `ca.pem`, `stranger.pem`, and `server.pem` and `client.pem` (key, certificate, authority) in a folder."""
    if (folder / "client.pem").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ca", "stranger"):
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", f"/CN=unimsg-tests-{name}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
        )  # fmt: skip
    names = folder / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="ascii")
    for name in ("server", "client"):
        key, request, certificate = (folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request
        )
        _openssl(
            "x509", "-req", "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial",
            "-days", "3650", "-extfile", names, "-out", certificate,
        )  # fmt: skip
        private = _openssl("pkcs8", "-topk8", "-nocrypt", "-in", key)
        chain = certificate.read_bytes() + (folder / "ca.pem").read_bytes()
        (folder / f"{name}.pem").write_bytes(private + chain)
    return folder


def _openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(
        ["openssl", *map(str, arguments)],
        check=True,
        capture_output=True,
    ).stdout
