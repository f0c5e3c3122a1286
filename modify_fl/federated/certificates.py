"""The coordinator's certificate authority, and its server's certificate (F-25).

ECDSA over P-256, made here with ``cryptography``: a private authority for one
federation, whose certificate travels in the kit, and one server certificate for
the names and addresses under which sites reach the coordinator.
"""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modify_fl.errors import FederationSetupError
from protocol.storage import PRIVATE, PUBLIC, atomic_writer, read_file

__all__ = ["CA", "CA_KEY", "SERVER", "SERVER_KEY", "make_authority", "make_server"]

CA = "ca.crt"
"""The authority's certificate; sites get it in the kit."""
CA_KEY = "ca.key"
SERVER = "server.pem"
SERVER_KEY = "server.key"

_AUTHORITY_LIFE = timedelta(days=365)
_SERVER_LIFE = timedelta(days=180)
_EARLIER = timedelta(minutes=10)  # clocks of sites may be behind
_SMALL = 1 << 14


def make_authority(folder: Path) -> bytes:
    """Make the authority in ``folder`` unless it is there, and return its certificate (PEM).

    Raises:
        StorageError: A file cannot be read or written.
    """
    if (folder / CA).exists() and (folder / CA_KEY).exists():
        return read_file(folder / CA, limit=_SMALL)
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("modify-fl federation")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key.public_key(), _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(folder / CA_KEY, key)
    return _write_certificate(folder / CA, certificate)


def make_server(folder: Path, hosts: tuple[str, ...]) -> None:
    """Make the server's key and certificate in ``folder``, beside the authority.

    Args:
        folder: Holds the authority.
        hosts: Names and addresses under which sites, and this machine itself, reach the server.

    Raises:
        FederationSetupError: The authority has run out.
        StorageError: A file cannot be read or written.
    """
    authority = x509.load_pem_x509_certificate(read_file(folder / CA, limit=_SMALL))
    if authority.not_valid_after_utc <= datetime.now(UTC):
        raise FederationSetupError(
            "the certificate authority of this plan has run out", why=f"on {authority.not_valid_after_utc:%Y-%m-%d}",
            fix="make a new plan, and give every site the new kit",
        )  # fmt: skip
    signer = load_pem_private_key(read_file(folder / CA_KEY, limit=_SMALL, private=True), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101 - written by ``make_authority``
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    life = min(_SERVER_LIFE, authority.not_valid_after_utc - datetime.now(UTC))
    certificate = (
        _builder(_name(hosts[0]), authority.subject, key.public_key(), life)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write_key(folder / SERVER_KEY, key)
    _write_certificate(folder / SERVER, certificate)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + life)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    with atomic_writer(path, mode=PRIVATE, overwrite=True) as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _write_certificate(path: Path, certificate: x509.Certificate) -> bytes:
    data = certificate.public_bytes(Encoding.PEM)
    with atomic_writer(path, mode=PUBLIC, overwrite=True) as stream:
        stream.write(data)
    return data
