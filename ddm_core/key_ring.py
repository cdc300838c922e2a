"""Master keys with their ids, and the key file as text: parsing and formatting, no file access.

A key file is JSON, `{"format": "ddm-keys", "version": 1, "keys": [{"id", "created", "key"}, ...]}`. The last
key is the current one, which encrypts; all of them decrypt. Under a passphrase, `scrypt` holds the public
settings and each key is `sealed` instead of `key`. A file of exactly 32 bytes is one bare master key, the
form of version 0.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import json
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from ddm_core.errors import DdmError
from ddm_core.key_wrapping import Scrypt, Wrapping, new_scrypt
from ddm_core.keys import KEY_BYTES, generate_key
from ddm_core.strict import parse

FORMAT, VERSION = "ddm-keys", 1
KEY_ID_BYTES = 8
MAX_FILE_BYTES = 1 << 20
_ID_INFO = b"ddm-pipeline key id v1"
_MEND = "restore it from a copy, or make one: ddm key new FILE"


@dataclass(frozen=True)
class MasterKey:
    """32 secret bytes; `created` is an ISO 8601 time in UTC, or `None` where nobody noted it."""

    secret: bytes = field(repr=False)
    created: str | None = None

    @property
    def id(self) -> bytes:
        """8 bytes that name the key and tell nothing about it: a truncated HMAC-SHA256."""
        return key_id(self.secret)


@dataclass(frozen=True)
class KeyRing:
    """At least one master key, oldest first; the last one encrypts."""

    keys: tuple[MasterKey, ...]

    @property
    def current(self) -> MasterKey:
        """The key that encrypts."""
        return self.keys[-1]

    def find(self, wanted: bytes) -> MasterKey:
        """Return the key with this id.

        Raises:
            DdmError: no key of the ring has it.
        """
        for key in self.keys:
            if hmac.compare_digest(key.id, wanted):
                return key
        held = ", ".join(key.id.hex() for key in self.keys)
        raise DdmError(
            f"wrong key: the photo needs key {wanted.hex()}, the key file holds {held};"
            " use the key file it was encrypted with"
        )


@dataclass(frozen=True)
class Entry:
    """One key of a key file: bare, or sealed under the file's passphrase."""

    id: str
    created: str | None = None
    key: str | None = field(default=None, repr=False)
    sealed: str | None = None


@dataclass(frozen=True)
class KeyFile:
    """What a key file says without its passphrase."""

    keys: tuple[Entry, ...]
    scrypt: Scrypt | None = None

    @property
    def wrapped(self) -> bool:
        """Whether a passphrase is needed."""
        return self.scrypt is not None


def key_id(secret: bytes) -> bytes:
    """Return the 8-byte id of a master key."""
    return hmac.digest(secret, _ID_INFO, sha256)[:KEY_ID_BYTES]


def new_key(created: datetime) -> MasterKey:
    """Return a fresh master key, made at this time (with a time zone)."""
    return MasterKey(generate_key(), created.isoformat(timespec="seconds"))


def close_ring(ring: KeyRing, passphrase: bytes | None = None, scrypt: Scrypt | None = None) -> KeyFile:
    """Return the ring as a key file, under a passphrase if one is given."""
    if passphrase is None:
        return KeyFile(tuple(Entry(key.id.hex(), key.created, _base64(key.secret)) for key in ring.keys))
    wrapping = Wrapping(scrypt or new_scrypt(), passphrase)
    sealed = (_base64(wrapping.seal(key.secret, _context(key.id.hex(), key.created))) for key in ring.keys)
    return KeyFile(
        tuple(
            Entry(key.id.hex(), key.created, sealed=text) for key, text in zip(ring.keys, sealed, strict=True)
        ),
        wrapping.scrypt,
    )


def open_ring(file: KeyFile, passphrase: bytes | None, where: str) -> KeyRing:
    """Return the keys of a key file.

    Raises:
        DdmError: no passphrase or a wrong one, or a key that is not what its id says.
    """
    wrapping = None
    if file.scrypt is not None:
        if passphrase is None:
            raise DdmError(
                f"{where}: is under a passphrase; give --passphrase-file FILE or --passphrase-env NAME"
            )
        wrapping = Wrapping(file.scrypt, passphrase)
    return KeyRing(tuple(_open_entry(entry, wrapping, where) for entry in file.keys))


def parse_key_file(content: bytes, where: str) -> KeyFile:
    """Read a key file's bytes; `where` names it in messages, which never show its content.

    Raises:
        DdmError: not a key file, damaged, or of another version.
    """
    if len(content) == KEY_BYTES:
        return KeyFile((Entry(key_id(content).hex(), None, _base64(content)),))
    if not content.lstrip().startswith(b"{"):
        raise DdmError(f"{where} has {len(content)} bytes; a master key has {KEY_BYTES}; {_MEND}")
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError):
        raise DdmError(f"{where}: damaged, not the JSON of a key file; {_MEND}") from None
    if plain.get("format") != FORMAT:
        raise DdmError(f"{where}: not a key file of this project; {_MEND}")
    if plain.get("version") != VERSION:
        raise DdmError(
            f"{where}: key file version {str(plain.get('version'))[:20]}, this code reads {VERSION}"
        )
    try:
        file = parse(
            {name: value for name, value in plain.items() if name not in ("format", "version")},
            KeyFile, where, {bytes: _read_bytes},
        )  # fmt: skip
    except DdmError as error:
        # Only what the rules say: values may be secret.
        raise DdmError(f"{str(error).partition(', got ')[0]}; damaged key file, {_MEND}") from None
    _check_entries(file, where)
    return file


def format_key_file(file: KeyFile) -> bytes:
    """Return the bytes that `parse_key_file` reads."""
    plain: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if file.scrypt is not None:
        plain["scrypt"] = dataclasses.asdict(file.scrypt) | {"salt": _base64(file.scrypt.salt)}
    plain["keys"] = [
        {name: value for name, value in dataclasses.asdict(entry).items() if value is not None}
        for entry in file.keys
    ]
    return (json.dumps(plain, indent=2) + "\n").encode()


def _check_entries(file: KeyFile, where: str) -> None:
    if not file.keys:
        raise DdmError(f"{where}: holds no key; {_MEND}")
    if len({entry.id for entry in file.keys}) < len(file.keys):
        raise DdmError(f"{where}: damaged key file, one key stands there twice; {_MEND}")
    for entry in file.keys:
        wanted, other = (entry.sealed, entry.key) if file.wrapped else (entry.key, entry.sealed)
        if wanted is None or other is not None:
            raise DdmError(f"{where}: damaged key file, sealed and bare keys are mixed; {_MEND}")


def _open_entry(entry: Entry, wrapping: Wrapping | None, where: str) -> MasterKey:
    try:
        if wrapping is None:
            secret = _unbase64(entry.key or "")
        else:
            secret = wrapping.open(_unbase64(entry.sealed or ""), _context(entry.id, entry.created))
    except ValueError:
        raise DdmError(f"{where}: damaged key file, a key is not base64; {_MEND}") from None
    except DdmError as error:
        raise DdmError(f"{where}: {error}") from None
    if len(secret) != KEY_BYTES or key_id(secret).hex() != entry.id:
        raise DdmError(f"{where}: damaged key file, a key does not fit its id; {_MEND}")
    return MasterKey(secret, entry.created)


def _context(identity: str, created: str | None) -> bytes:
    return json.dumps([FORMAT, VERSION, identity, created]).encode()


def _read_bytes(value: object, where: str) -> bytes:
    try:
        return _unbase64(value if isinstance(value, str) else "?")
    except ValueError:
        raise DdmError(f"{where}: expected base64") from None


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
