"""How many parts a file consists of, counted before a decoder takes it apart.

Pillow reads the parts of a file (segments, chunks, blocks, entries of a directory) in Python, one after the other, and
keeps what they hold, before anybody can ask it for the picture's size. So a file of millions of empty parts costs
minutes and gigabytes. The walks here skip over parts by their lengths alone: they are linear in the number of parts,
and end at the first that is one too many. They judge nothing else; what is damaged, the decoder refuses.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Literal

# Measured over what cameras, phones, Photoshop and scanners write, with a wide margin: a JPEG of theirs has up to some
# hundred segments (a long XMP is cut into pieces of 64 KiB), a PNG of 50 megapixels some ten thousand chunks of data.
MAX_SEGMENTS = 2_000
"""Of a JPEG, before its first scan."""
MAX_STRAY_BYTES = 65_536
"""Between the segments of a JPEG, padding included."""
MAX_DATA_CHUNKS = 50_000
"""Chunks of a PNG that hold pixels."""
MAX_CHUNKS = 2_000
"""All other chunks of a PNG."""
MAX_PROFILE_CHUNKS = 4
"""Chunks of a PNG with a colour profile, of which the format allows one; each is unpacked."""
MAX_BLOCKS = 100_000
"""Blocks of a GIF before its first picture."""
MAX_ENTRIES = 4_096
"""Entries in the first directory of a TIFF."""
MAX_VALUES = 65_536
"""Values of an entry that says where the pixels of a TIFF lie: one for each strip or tile."""
MAX_NUMBERS = 200_000
"""Values of any other entry of a TIFF but bytes and texts; the palette of a 16-bit file has 196,608."""
MAX_WEBP_CHUNKS = 100
"""Of a WebP, before its first picture."""
MAX_EXIF_BYTES = 2**20
"""Of all EXIF segments of a JPEG together; the standard knows one, of up to 64 KiB."""
MAX_ORIENTATIONS = 16
"""Values of the entry that says which side is up; one is meant."""


def has_too_many_parts(data: bytes) -> bool:
    """Whether a file has more parts than any honest one; False for formats whose parts are not read in Python.

    Args:
        data: the whole file.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith((b"II", b"MM")):
        return _tiff(data)
    return False


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that the head of a WebP file states; None for other files and damaged heads.

    Args:
        data: the file, or its first 30 bytes.
    """
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            # The upper two bits ask for scaling, which nobody does.
            return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def webp_first_frame(data: bytes) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the first picture of an animated WebP; None for other files.

    Args:
        data: the whole file.
    """
    if webp_size(data) is None or data[12:16] != b"VP8X" or not data[20] & 2:
        return None
    position = 12
    # It follows the flags, a profile and the loop; a search through all chunks would take as long as there are many.
    for _number in range(MAX_WEBP_CHUNKS):
        if data[position : position + 4] == b"ANMF" and len(data) >= position + 20:
            fields = (data[start : start + 3] for start in range(position + 8, position + 20, 3))
            left, top, width, height = (int.from_bytes(field, "little") for field in fields)
            return 2 * left, 2 * top, 2 * left + width + 1, 2 * top + height + 1
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    return None


_FILL = re.compile(rb"\xff+")
# Start of a picture, restarts, end, and a marker for private use: no length follows.
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xDA)))
_START_OF_SCAN = 0xDA


def _jpeg(data: bytes) -> bool:
    position, segments, stray, exif_bytes = 2, 0, 0, 0
    while fill := _FILL.search(data, position):
        stray += fill.start() - position + len(fill[0]) - 1
        if segments > MAX_SEGMENTS or stray > MAX_STRAY_BYTES or exif_bytes > MAX_EXIF_BYTES:
            return True
        if fill.end() == len(data):
            return False
        code, position = data[fill.end()], fill.end() + 1
        if code == _START_OF_SCAN:
            return False
        if code == 0:
            stray += 2
            continue
        segments += 1
        if code not in _WITHOUT_LENGTH:
            length = max(int.from_bytes(data[position : position + 2]), 2)
            if data.startswith(b"Exif\0\0", position + 2):
                exif_bytes += length
            position += length
    return stray + len(data) - position > MAX_STRAY_BYTES


def _png(data: bytes) -> bool:
    position, chunks, data_chunks, profiles = 8, 0, 0, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind in (b"IDAT", b"fdAT"):
            data_chunks += 1
        else:
            chunks += 1
            profiles += kind == b"iCCP"
        if chunks > MAX_CHUNKS or data_chunks > MAX_DATA_CHUNKS or profiles > MAX_PROFILE_CHUNKS:
            return True
        position += 12 + length
    return False


def _gif(data: bytes) -> bool:
    # Header and screen descriptor, whose flags tell how long the palette after them is.
    position, blocks = 13 + _palette_bytes(data[10:11]), 0
    while position < len(data) and data[position] != 0x2C and blocks <= MAX_BLOCKS:
        blocks += 1
        if data[position] == 0x21:
            # What the extension is for, and its blocks up to an empty one.
            position += 2
            while position < len(data) and data[position] and blocks <= MAX_BLOCKS:
                position += 1 + data[position]
                blocks += 1
        position += 1
    return blocks > MAX_BLOCKS


def _palette_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


_ORIENTATION = 274
# StripOffsets, StripByteCounts, TileOffsets, TileByteCounts.
_PLACES = frozenset((273, 279, 324, 325))
# BYTE, ASCII, SBYTE, UNDEFINED: read in one piece, and as long as a profile or an XMP may be.
_BYTES = frozenset((1, 2, 6, 7))


def _tiff(data: bytes) -> bool:
    entries = _entries(data)
    return len(entries) > MAX_ENTRIES or any(entry.count > _most(entry.tag, entry.kind) for entry in entries)


def _most(tag: int, kind: int) -> float:
    """How many values an entry of a TIFF may have."""
    if tag == _ORIENTATION:
        return MAX_ORIENTATIONS
    if tag in _PLACES:
        return MAX_VALUES
    return math.inf if kind in _BYTES else MAX_NUMBERS


def exif_orientation(exif: bytes) -> int | None:
    """Which side is up by EXIF data: 1 to 8 if they say so in the one way that browsers understand, one short number.

    Args:
        exif: a TIFF file, with or without "Exif" and two zeros before it.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"
    found = [entry.value for entry in _entries(exif) if (entry.tag, entry.kind, entry.count) == (_ORIENTATION, 3, 1)]
    value = int.from_bytes(found[0][:2], order) if found else None
    return value if value in range(1, 9) else None


@dataclass(frozen=True, slots=True)
class _Entry:
    """``value`` is that of the entry, or where it lies."""

    tag: int
    kind: int
    count: int
    value: bytes


def _entries(data: bytes) -> list[_Entry]:
    """What the first directory of a TIFF holds; empty where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return []
    try:
        version, start = struct.unpack_from(f"{order}HI", data, 2)
        if version == 43:
            (start,) = struct.unpack_from(f"{order}Q", data, 8)
            (number,) = struct.unpack_from(f"{order}Q", data, start)
            entry, start = struct.Struct(f"{order}HHQ8s"), start + 8
        else:
            (number,) = struct.unpack_from(f"{order}H", data, start)
            entry, start = struct.Struct(f"{order}HHI4s"), start + 2
    except (struct.error, OverflowError):
        return []
    # One more than is allowed tells enough.
    number = min(number, MAX_ENTRIES + 1, max(len(data) - start, 0) // entry.size)
    return [_Entry(*entry.unpack_from(data, start + place * entry.size)) for place in range(number)]
