"""Certificates: what is read from them, and which are never taken."""

from __future__ import annotations

import base64
import random
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from server.config import Tls
from server.errors import ConfigurationError
from server.security.certificates import CertificateFiles, read
from server.security.watched_files import WatchedFiles
from tests.support.certificates import Authority, Files, Pair, key_pem, make_files, new_key


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A good set."""
    return make_files(tmp_path)


def settings(files: Files, *, client_ca: bool = False, metrics: bool = False) -> Tls:
    """What names them."""
    return Tls(str(files.certificate), str(files.key), str(files.ca) if client_ca else "", metrics)


def test_expiry_is_that_of_the_first_in_the_chain_that_expires(files: Files) -> None:
    """Of signers for clients it is that of the last: until then somebody can get in."""
    soon, late = Authority(valid=timedelta(days=3)), Authority(valid=timedelta(days=300))
    pair = files.rotate(valid=timedelta(days=10))
    files.certificate.write_bytes(pair.certificate + soon.pem)
    files.ca.write_bytes(soon.pem + late.pem)
    found = read(settings(files, client_ca=True))
    expected = [x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp() for pem in (soon.pem, late.pem)]
    assert [found.expires_s, found.client_ca_expires_s] == expected
    assert (found.client_ca, found.https) == (soon.pem + late.pem, None)
    assert read(settings(files, metrics=True)).https is not None


def other_key(files: Files) -> None:
    """A key that is not that of the certificate."""
    files.key.write_bytes(key_pem(new_key()))


def encrypted(files: Files) -> None:
    """A key behind a password."""
    files.key.write_bytes(key_pem(new_key(), b"secret"))


def of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> Callable[[Files], None]:
    """A pair with this key."""
    return lambda files: files.authority.issue(key=key).write(files.certificate, files.key)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda files: files.certificate.unlink(), "server.pem: No such file"),
        (lambda files: files.key.unlink(), "server.key: No such file"),
        (lambda files: files.ca.unlink(), "ca.pem: No such file"),
        (lambda files: files.certificate.write_bytes(b""), "server.pem: holds no certificates"),
        (lambda files: files.certificate.write_bytes(files.certificate.read_bytes()[:300]), "holds no certificates"),
        (lambda files: files.ca.write_bytes(b"nonsense"), "ca.pem: holds no certificates"),
        (lambda files: files.key.write_bytes(b"nonsense"), "server.key: holds no private key"),
        (other_key, "server.key: is not the key of the first certificate"),
        (encrypted, "server.key: is encrypted"),
        (of(ed25519.Ed25519PrivateKey.generate()), "server.key: is no key that gRPC can use"),
        (of(ec.generate_private_key(ec.SECP521R1())), "server.key: is no key that gRPC can use"),
    ],
)
def test_what_cannot_serve_is_named_and_replaces_nothing(
    spoil: Callable[[Files], None], problem: str, files: Files
) -> None:
    """At the start it is an error; later the one before stays."""
    known = CertificateFiles(settings(files, client_ca=True))
    before = known.current
    spoil(files)
    for attempt in (lambda: CertificateFiles(settings(files, client_ca=True)), known.reload):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        assert caught.value.reason == "TLS_UNUSABLE"
        assert problem in caught.value.message
    assert known.current is before


def test_whatever_bytes_are_in_the_files_the_error_is_ours(files: Files) -> None:
    """Hundreds of sets with a damaged file: each is taken or named; nothing else is raised, at no later moment."""
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    good = {path: path.read_bytes() for path in (files.certificate, files.key, files.ca)}
    refused = 0
    for _ in range(300):
        path = chance.choice(list(good))
        begin, *body, end = good[path].decode().strip().splitlines()
        der = bytearray(base64.b64decode("".join(body)))
        for _ in range(chance.randint(1, 4)):
            der[chance.randrange(len(der))] = chance.randrange(256)
        path.write_text(f"{begin}\n{base64.encodebytes(bytes(der)).decode()}{end}\n")
        try:
            read(settings(files, client_ca=True, metrics=True))
        except ConfigurationError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        path.write_bytes(good[path])
    assert refused > 100


@pytest.mark.parametrize("key", [rsa.generate_private_key(65_537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_usual_keys_are_taken(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, files: Files) -> None:
    """RSA and the other curve that every TLS library has."""
    files.authority.issue(key=key).write(files.certificate, files.key)
    assert read(settings(files)).key == files.key.read_bytes()


def test_an_expired_certificate_never_replaces_one_that_is_valid(files: Files) -> None:
    """The other way round it does, and at the start it is taken: the next one may come any moment."""
    known = CertificateFiles(settings(files))
    good = known.current
    files.rotate(valid=timedelta(hours=-1))
    with pytest.raises(ConfigurationError, match="is valid only from"):
        known.reload()
    assert known.current is good
    late = CertificateFiles(settings(files))
    files.rotate()
    assert late.reload().valid_at(good.not_before_s + 1)


def test_a_change_is_seen_once_it_has_settled(files: Files) -> None:
    """Not between certificate and key, and only until it is taken."""
    watched = WatchedFiles([files.certificate, files.key])
    assert [watched.changed(), watched.changed()] == [False, False]
    pair: Pair = files.authority.issue()
    files.certificate.write_bytes(pair.certificate)
    assert not watched.changed()
    files.key.write_bytes(pair.key)
    assert not watched.changed()
    assert [watched.changed(), watched.changed()] == [True, True]
    watched.take()
    assert not watched.changed()
    files.key.unlink()
    assert [watched.changed(), watched.changed()] == [False, True]


def test_secrets_that_are_swapped_by_a_link_are_seen(tmp_path: Path) -> None:
    """As mounted secrets are: the file is a link into a directory that is a link itself."""
    for number in (1, 2):
        directory = tmp_path / f"..{number}"
        directory.mkdir()
        (directory / "tls.crt").write_text("the same length")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    watched = WatchedFiles([tmp_path / "tls.crt"])
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert [watched.changed(), watched.changed()] == [False, True]
