"""How does a cluster know its own? By a key and a certificate made for it: who has not got them can neither ask it nor answer for it.

    python -m medadv.run.keys FOLDER     # a new folder with cert.pem and key.pem, for a scheduler that is started by hand
"""

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medadv.common.errors import MedadvError, SpecError

LIFE = timedelta(days=366)
"""Longer than any run: a certificate that ends would end it."""
SKEW = timedelta(days=1)
"""How far the clocks of a cluster's machines may be apart."""


@dataclass(frozen=True)
class Keys:
    """PEM texts. The certificate signs itself, so it is the authority too; whoever has both is the scheduler, a worker or the run."""

    certificate: str
    key: str


def new_keys() -> Keys:
    """A key that nothing else was made with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "medadv cluster")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Keys(certificate.public_bytes(pem).decode(), private.decode())


def write_keys(folder: Path) -> tuple[Path, Path]:
    """Certificate and key as files in a new folder that its owner alone may enter; returns their paths. SpecError: it cannot be made."""
    keys = new_keys()
    paths = folder / "cert.pem", folder / "key.pem"
    try:
        folder.mkdir(mode=0o700)
        for path, text in zip(paths, (keys.certificate, keys.key), strict=True):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(text)
    except OSError as error:
        raise SpecError(f"{folder}: no keys can be written there ({error.strerror}); name a new folder") from None
    return paths


def main() -> None:
    """Write keys into the folder that is named, and say what they are for."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        certificate, key = write_keys(Path(sys.argv[1]))
    except MedadvError as error:
        print(f"medadv: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"scheduler, workers: --tls-ca-file {certificate} --tls-cert {certificate} --tls-key {key}")
    print(f"medadv run:         --tls-ca {certificate} --tls-cert {certificate} --tls-key {key}")


if __name__ == "__main__":
    main()
