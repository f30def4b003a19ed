"""JPEG as USB cameras send it: with padding, cut off by a lost packet, and often without Huffman tables."""

from __future__ import annotations

from hardware.cameras.frame_source import BadFrame

_START, _END = b"\xff\xd8", b"\xff\xd9"
_HUFFMAN, _SCAN = 0xC4, 0xDA
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}

# The example tables of ITU-T T.81 (the JPEG standard), section K.3, which Motion JPEG takes for granted. Each: class
# and number, how many codes of 1 to 16 bits there are, and their symbols.
_LUMINANCE_DC = (0x00, "00010501010101010100000000000000", "000102030405060708090a0b")
_CHROMINANCE_DC = (0x01, "00030101010101010101010000000000", "000102030405060708090a0b")
_LUMINANCE_AC = (
    0x10,
    "0002010303020403050504040000017d",
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738"
    "393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5"
    "a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa",
)
_CHROMINANCE_AC = (
    0x11,
    "00020102040403040705040400010277",
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a353637"
    "38393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3"
    "a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa",
)


def standard_tables() -> bytes:
    """The standard's Huffman tables as one JPEG segment."""
    tables = (_LUMINANCE_DC, _LUMINANCE_AC, _CHROMINANCE_DC, _CHROMINANCE_AC)
    body = b"".join(bytes([kind]) + bytes.fromhex(counts + symbols) for kind, counts, symbols in tables)
    return bytes([0xFF, _HUFFMAN]) + (len(body) + 2).to_bytes(2, "big") + body


_TABLES = standard_tables()


def whole_jpeg(data: bytes) -> bytes:
    """A frame of a Motion JPEG camera as a JPEG that every decoder reads.

    Args:
        data: What the camera's driver delivered.

    Raises:
        BadFrame: It does not begin or end as a JPEG does: part of it was lost.
    """
    if not data.startswith(_START):
        raise BadFrame(f"{len(data)} bytes from the camera do not begin as JPEG: check its cable and USB bandwidth")
    # Drivers pad frames to a multiple of their buffers, with zeros; a search from the end skips that.
    end = data.rfind(_END)
    if end < 0:
        raise BadFrame(f"a JPEG of {len(data)} bytes has no end: part of it was lost; check cable and USB bandwidth")
    jpeg = data[: end + len(_END)]
    scan, has_tables = _first_scan(jpeg)
    return jpeg if has_tables else jpeg[:scan] + _TABLES + jpeg[scan:]


def _first_scan(jpeg: bytes) -> tuple[int, bool]:
    """Where the picture's data begin, and whether Huffman tables come before it."""
    at, has_tables = len(_START), False
    while at + 4 <= len(jpeg):
        if jpeg[at] != 0xFF:
            break
        marker = jpeg[at + 1]
        if marker == _SCAN:
            return at, has_tables
        has_tables |= marker == _HUFFMAN
        if marker == 0xFF:
            at += 1
        elif marker in _NO_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    raise BadFrame(f"a JPEG of {len(jpeg)} bytes holds no picture: its segments are damaged")
