"""The checksum that an exported file carries of itself, so that a damaged copy is refused instead of answering wrongly.

It is the last entry of the ONNX file's metadata: SHA-256 over the whole file, with 64 zeros in place of the checksum.
Files exported before there was one have none, and are not checked.
"""

from __future__ import annotations

import hashlib

from iern.runtime.errors import ArtifactError

KEY = b"content_sha256"
DIGITS = 64
_ENTRY = b"\n" + bytes([len(KEY)]) + KEY + b"\x12" + bytes([DIGITS])
"""The key and the head of the value, as protobuf writes a StringStringEntryProto; the digits follow."""
_FIELD = b"\x72" + bytes([len(_ENTRY) + DIGITS])
"""`metadata_props`, field 14 of a ModelProto. Protobuf takes a repeated field at the end as one more element."""


def with_checksum(content: bytes) -> bytes:
    """An ONNX file's content -> the same with its checksum, which replaces an older one."""
    if not _stated(content):
        content += _FIELD + _ENTRY + bytes(DIGITS)
    return _with_digits(content, _digest(content))


def check_content(content: bytes, name: str) -> None:
    """Raise ArtifactError if the content of the file called `name` does not have the checksum that it states."""
    stated = _stated(content)
    if stated and stated != (found := _digest(content)):
        raise ArtifactError(
            f"{name}: is damaged: its content has the checksum {found.decode()[:12]}..., it states "
            f"{stated.decode('ascii', 'replace')[:12]}...; copy it again, or export the checkpoint again"
        )


def _place(content: bytes) -> int:
    """Where the digits begin; -1 if there are none."""
    at = content.rfind(_ENTRY)
    return at + len(_ENTRY) if at >= 0 and at + len(_ENTRY) + DIGITS <= len(content) else -1


def _stated(content: bytes) -> bytes:
    at = _place(content)
    return content[at : at + DIGITS] if at >= 0 else b""


def _with_digits(content: bytes, digits: bytes) -> bytes:
    at = _place(content)
    return content[:at] + digits + content[at + DIGITS :]


def _digest(content: bytes) -> bytes:
    """64 hexadecimal digits."""
    view, at = memoryview(content), _place(content)
    digest = hashlib.sha256(view[:at])
    digest.update(bytes(DIGITS))
    digest.update(view[at + DIGITS :])
    return digest.hexdigest().encode()
