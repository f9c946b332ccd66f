"""Seeded damage: single bytes, numbers of a header, offsets, pieces lost, doubled or swapped."""

import struct

import numpy as np

NUMBERS = (
    0, 1, 2, 4, 8, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1,
    2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
"""What a field of a header is set to."""

TEXTS = (
    b"-1", b"99999999999999999999", b"1e308", b"nan", b"inf", b"", b"\0", b"\xff\xfe", b"\n", b"\"",
    b"'", b" ", b",", b"\t", b";", b"\x1b[31m", b"(", b"[" * 300, b"9" * 5000,
)  # fmt: skip
"""What is written between or over the bytes of a text."""


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to four places damaged; headers and footers more often than the rest."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at = _place(len(data), rng)
        kind = rng.integers(8)
        size = int(rng.integers(1, 33))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = int(rng.integers(256))
        elif kind == 2:
            width = int(rng.choice([1, 2, 4, 8]))
            number = NUMBERS[int(rng.integers(len(NUMBERS)))] % 2 ** (8 * width)
            order = "<>"[int(rng.integers(2))]
            code = {1: "B", 2: "H", 4: "I", 8: "Q"}[width]
            data[at : at + width] = struct.pack(order + code, number)
        elif kind == 3:
            data[at : at + size] = rng.bytes(size)
        elif kind == 4:
            del data[at : len(data) if rng.random() < 0.3 else at + size]
        elif kind == 5:
            data[at:at] = data[at : at + size] * int(rng.integers(1, 4))
        elif kind == 6:
            text = TEXTS[int(rng.integers(len(TEXTS)))]
            data[at : at + int(rng.integers(2)) * len(text)] = text
        else:
            other = _place(len(data), rng)
            data[at : at + size], data[other : other + size] = (
                data[other : other + size],
                data[at : at + size],
            )
    return bytes(data)


def _place(size: int, rng: np.random.Generator) -> int:
    share = rng.random()
    if share < 0.35:
        return int(rng.integers(min(size, 256)))
    if share < 0.6:
        return size - 1 - int(rng.integers(min(size, 1024)))
    return int(rng.integers(size))
