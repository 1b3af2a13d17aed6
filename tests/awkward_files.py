"""More than 300 image files and masks as they turn up in practice or as an attacker would make them."""

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 24
LOSSLESS = ("png", "bmp", "tif", "ppm")
FORMATS = (*LOSSLESS, "jpg", "webp")
CUTS = (1, 7, 16, 40, 0.1, 0.25, 0.5, 0.75, 0.9, -100, -12, -8, -3, -2, -1)
"""Where files are cut off: after so many bytes, at this share of them, or so many bytes before the end."""
DAMAGED_PLACES = 8


class Awkward(NamedTuple):
    """A file, and what is to become of it.

    Attributes:
        path: Relative to the folder of all.
        outcome: ``"read"`` and ``"refused"`` say what must happen; ``"either"`` leaves it to the damage done.
        reason: Pattern that the refusal must match.
    """

    path: str
    outcome: str
    reason: str = ""


class AwkwardMask(NamedTuple):
    """A mask of the 64x64 picture with its square at rows and columns 8 to 24, None for a missing one.

    Attributes:
        name: What is special.
        content: Bytes of the file.
        ending: Of its name.
        reason: Pattern that the refusal must match; None if it is to be read as the square.
    """

    name: str
    content: bytes | None
    ending: str = "png"
    reason: str | None = None


def write_awkward_files(folder: Path, seed: int = 0) -> list[Awkward]:
    """Write all image files (no masks) below a folder that exists, and tell what is to become of each."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    cases = []
    for path, content, *expected in _contents(rng, pixels):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        cases.append(Awkward(path, *expected))
    return cases + _write_special(folder, encode(Image.fromarray(pixels)))


def encode(image: Image.Image, suffix: str = "png", **options: object) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return stream.getvalue()


def _contents(rng: np.random.Generator, pixels: np.ndarray) -> Iterator[tuple]:
    image = Image.fromarray(pixels)
    whole = {suffix: encode(image, suffix) for suffix in FORMATS}
    yield from _cut_and_damaged(rng, whole)
    yield from _disguised(whole)
    yield from _pixel_formats(image)
    yield from _several_frames(image)
    yield from _odd_headers(image, whole)
    yield from _sizes(rng)
    yield from _bombs(image)
    names = (
        "with space",
        " leading",
        "trailing ",
        "-rf",
        "=1+1",
        "@SUM(1)",
        "%s %d {x}",
        "a'b\"c`d",
        "<b>&amp;",
        "$(id)",
    )
    more_names = (
        "a\nb",
        "a\tb",
        "a\x1b[31mred",
        "back\\slash",
        "günlük",
        "gu\u0308nlu\u0308k",
        "画像",
        "📷",
        "x" * 240,
    )
    for name in (*names, *more_names, "a.b.c", ".hidden", "..twodots", "caf\udce9"):
        yield f"names/{name}.png", whole["png"], "read"
    yield "names/UPPER.PNG", whole["png"], "read"
    yield "names/Mixed.JpEg", whole["jpg"], "read"


def _cut_and_damaged(rng: np.random.Generator, whole: dict[str, bytes]) -> Iterator[tuple]:
    for suffix, content in whole.items():
        for cut in CUTS:
            kept = round(cut * len(content)) if isinstance(cut, float) else cut
            yield f"cut/at {cut}.{suffix}", content[:kept], "either"
        for number in range(DAMAGED_PLACES):
            damaged = bytearray(content)
            start = int(rng.integers(len(content) // 8, len(content) - 8))
            damaged[start : start + 4] = rng.bytes(4)
            yield f"damaged/{number}.{suffix}", bytes(damaged), "either"


def _disguised(whole: dict[str, bytes]) -> Iterator[tuple]:
    for suffix, content in whole.items():
        other = FORMATS[FORMATS.index(suffix) - 1]
        yield f"disguised/{suffix} as.{other}", content, "read"
        yield f"disguised/wrong magic.{suffix}", b"\0\1\2\3" + content[4:], "refused", "not an image"
        yield f"disguised/empty.{suffix}", b"", "refused", r"empty \(0 bytes\)"
        yield f"disguised/text.{suffix}", b"This is not a picture.\n", "refused", "not an image"
        yield f"disguised/zeros.{suffix}", bytes(1000), "refused", "not an image"
    pages = {"page": b"<!doctype html><title>404</title>", "archive": b"PK\3\4" + bytes(60), "document": b"%PDF-1.7\n"}
    pages |= {"program": b"\x7fELF" + bytes(60), "vector": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
    for name, content in pages.items():
        yield f"disguised/{name}.png", content, "refused", "not an image|damaged"


def _pixel_formats(image: Image.Image) -> Iterator[tuple]:
    holds = {
        "png": ("1", "L", "LA", "P", "RGBA"),
        "jpg": ("L", "CMYK", "YCbCr"),
        "tif": ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB"),
        "bmp": ("1", "L", "P", "RGBA"),
        "webp": ("RGBA",),
        "ppm": ("1", "L"),
    }
    for suffix, modes in holds.items():
        for mode in modes:
            converted = image.convert(mode) if mode != "LAB" else Image.frombytes("LAB", image.size, image.tobytes())
            yield f"formats/{mode}.{suffix}", encode(converted, suffix), "read"
    deep = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 100
    more = r"more than 8 bits.*value / 257"
    yield "formats/16 bits.png", encode(Image.fromarray(deep)), "refused", more
    yield "formats/16 bits.tif", encode(Image.fromarray(deep), "tif"), "refused", more
    yield "formats/16 bits.ppm", b"P5 4 4 65535\n" + deep[:4, :4].astype(">u2").tobytes(), "refused", more
    yield "formats/32 bits.tif", encode(Image.fromarray(deep.astype(np.int32)), "tif"), "refused", more
    yield "formats/real.tif", encode(Image.fromarray(deep / np.float32(65535)), "tif"), "refused", "times 255"
    rows = b"".join(b"\0" + row.tobytes() for row in np.stack([deep] * 3, axis=-1).astype(">u2"))
    yield "formats/3 x 16 bits.png", png(SIDE, SIDE, 16, 2, rows), "read"
    for bits in (2, 4):
        packed = b"".join(b"\0" + bytes([0b00011011] * (SIDE * bits // 8)) for _ in range(SIDE))
        yield f"formats/{bits} bits.png", png(SIDE, SIDE, bits, 0, packed), "read"


def _several_frames(image: Image.Image) -> Iterator[tuple]:
    frames = [image.rotate(90 * turn) for turn in range(3)]
    for suffix, name in (("gif", "animated gif.png"), ("png", "animated.png"), ("webp", "animated.webp")):
        yield f"frames/{name}", encode(image, suffix, save_all=True, append_images=frames, duration=50), "read"
    yield "frames/pages.tif", encode(image, "tif", save_all=True, append_images=frames), "read"
    yield "frames/gif.jpg", encode(image, "gif"), "read"


def _odd_headers(image: Image.Image, whole: dict[str, bytes]) -> Iterator[tuple]:
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        yield f"turned/exif {turn}.jpg", encode(image, "jpg", exif=exif), "read"
    yield "headers/progressive.jpg", encode(image, "jpg", progressive=True), "read"
    yield "headers/trailing bytes.jpg", whole["jpg"] + b"camera", "read"
    yield "headers/trailing bytes.png", whole["png"] + b"camera", "read"
    yield "headers/jpeg in jpeg.jpg", whole["jpg"][:-2] + whole["jpg"], "either"
    yield "headers/broken exif.jpg", encode(image, "jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "read"
    yield "headers/broken profile.png", encode(image, icc_profile=b"no profile"), "read"
    end = whole["png"].index(b"IEND") - 4
    text = _chunk(b"tEXt", b"Comment\0x")
    yield "headers/comment.png", whole["png"][:end] + text + whole["png"][end:], "read"
    yield "headers/bad comment.png", whole["png"][:end] + text[:-1] + b"\0" + whole["png"][end:], "either"
    yield "headers/huge comment.png", _with_huge_comment(whole["png"]), "refused", "damaged"
    yield "headers/no palette.png", png(SIDE, SIDE, 8, 3, bytes(SIDE * (SIDE + 1))), "either"
    yield "headers/no pixels.png", png(SIDE, SIDE, 8, 2, b"", pixels=False), "refused", "damaged"
    yield "headers/few pixels.png", png(SIDE, SIDE, 8, 2, bytes(9)), "refused", "damaged"
    yield (
        "headers/sound checksum around rubbish.png",
        png(SIDE, SIDE, 8, 2, b"", packed=b"rubbish"),
        "refused",
        "damaged",
    )
    yield "headers/no width.png", png(0, SIDE, 8, 2, b""), "refused", "damaged|not an image"
    yield "headers/no height.ppm", b"P6 4 0 255\n", "refused", "damaged|not an image"
    yield "headers/words for numbers.ppm", b"P6 four 4 255\n", "refused", "damaged|not an image"


def _sizes(rng: np.random.Generator) -> Iterator[tuple]:
    for suffix in FORMATS:
        yield f"sizes/1x1.{suffix}", encode(Image.new("RGB", (1, 1), (9, 99, 200)), suffix), "read"
    for width, height in ((20_000, 10), (10, 20_000), (1, 3000), (3000, 1), (65_000, 2), (2, 2), (7, 5), (1025, 33)):
        strip = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
        yield f"sizes/{width}x{height}.png", encode(strip, compress_level=1), "read"


def _bombs(image: Image.Image) -> Iterator[tuple]:
    def patched(content: bytes, place: int, code: str, *sizes: int) -> bytes:
        packed = struct.pack(code, *sizes)
        return content[:place] + packed + content[place + len(packed) :]

    jpeg, tiff = encode(image, "jpg"), bytearray(encode(image, "tif"))
    for tag in (256, 257):  # width and height; the entry is tag, type, count, value
        place = tiff.index(struct.pack("<H", tag), 8)
        tiff[place : place + 12] = struct.pack("<HHII", tag, 4, 1, 60_000)
    size = "has more than 89478485 pixels"
    yield "bombs/declared.png", png(60_000, 60_000, 8, 2, bytes(99)), "refused", size
    yield "bombs/largest.png", png(2**31 - 1, 2**31 - 1, 8, 2, bytes(99)), "refused", size
    yield "bombs/where Pillow only warns.png", png(12_000, 10_000, 8, 2, bytes(99)), "refused", size
    yield "bombs/declared.bmp", patched(encode(image, "bmp"), 18, "<ii", 60_000, 60_000), "refused", size
    yield "bombs/declared.ppm", b"P6 60000 60000 255\n" + bytes(99), "refused", size
    yield "bombs/declared.tif", bytes(tiff), "refused", size
    yield "bombs/declared.jpg", patched(jpeg, jpeg.index(b"\xff\xc0") + 5, ">HH", 60_000, 60_000), "refused", size
    yield "bombs/gif.png", patched(encode(image, "gif"), 6, "<HH", 60_000, 60_000), "refused", size
    lossless = struct.pack("<BI", 0x2F, 16383 | 16383 << 14) + bytes(99)
    chunk = b"WEBPVP8L" + struct.pack("<I", len(lossless)) + lossless
    yield (
        "bombs/declared.webp",
        b"RIFF" + struct.pack("<I", len(chunk)) + chunk,
        "refused",
        f"{size}|not an image|damaged",
    )


def _write_special(folder: Path, good: bytes) -> list[Awkward]:
    special = folder / "special"
    (special / "below").mkdir(parents=True)
    (special / "below" / "good.png").write_bytes(good)
    (special / "folder.png").mkdir()
    (special / "link to file.png").symlink_to("below/good.png")
    (special / "link to link.png").symlink_to("link to file.png")
    (special / "link to folder.png").symlink_to("below")
    (special / "below" / "circle").symlink_to("..")
    for name, target in (("itself", "itself"), ("first", "second"), ("second", "first"), ("nowhere", "gone")):
        (special / f"link {name}.png").symlink_to(target if target == "gone" else f"link {target}.png")
    os.mkfifo(special / "pipe.png")
    os.mknod(special / "socket.png", stat.S_IFSOCK | 0o600)
    (special / "endless.png").symlink_to("/dev/zero")
    closed = special / "no permission.png"
    closed.write_bytes(good)
    closed.chmod(0)
    return [
        Awkward("special/below/good.png", "read"),
        Awkward("special/link to file.png", "read"),
        Awkward("special/link to link.png", "read"),
        *(Awkward(f"special/link {name}.png", "refused", "is a broken link") for name in ("itself", "first", "second")),
        Awkward("special/link nowhere.png", "refused", "is a broken link"),
        *(
            Awkward(f"special/{name}.png", "refused", "pipe, socket or device")
            for name in ("pipe", "socket", "endless")
        ),
        Awkward(
            "special/no permission.png", *(("read",) if os.access(closed, os.R_OK) else ("refused", "permissions"))
        ),
    ]


def awkward_masks() -> list[AwkwardMask]:
    """Masks as people save them."""
    square = np.zeros((64, 64), np.uint8)
    square[8:24, 8:24] = 1
    white = Image.fromarray(square * 255)
    red = Image.fromarray(np.stack([square * 255, square * 0, square * 0], axis=-1))
    palette = Image.fromarray(square).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 0])
    soft = Image.fromarray(square * 7)
    rgba = white.convert("RGBA")
    size = "differs in size from its image"
    return [
        AwkwardMask("white", encode(white)),
        AwkwardMask("ones", encode(Image.fromarray(square))),
        AwkwardMask("grey value 7", encode(soft)),
        AwkwardMask("several classes", encode(Image.fromarray(square * (np.arange(64, dtype=np.uint8) // 4 + 1)))),
        AwkwardMask("one bit", encode(white.convert("1"))),
        AwkwardMask("RGB", encode(white.convert("RGB"))),
        AwkwardMask("red", encode(red)),
        AwkwardMask("RGBA", encode(rgba)),
        AwkwardMask("palette", encode(palette)),
        AwkwardMask("bitmap", encode(white, "bmp"), "bmp"),
        AwkwardMask("tiff", encode(white, "tif"), "tif"),
        AwkwardMask("JPEG with sharp edges", encode(white, "jpg", quality=100), "jpg"),
        AwkwardMask("JPEG with noise", encode(_tilted(white), "jpg", quality=60), "jpg", "JPEG with .* grey values"),
        AwkwardMask("damaged JPEG", _broken_inside(white), "jpg", "damaged or cut off"),
        AwkwardMask("half the size", encode(white.resize((32, 32))), reason=size),
        AwkwardMask("one pixel", encode(white.resize((1, 1))), reason=size),
        AwkwardMask("larger", encode(white.resize((65, 64))), reason=size),
        AwkwardMask("16 bits", encode(Image.fromarray(square.astype(np.uint16) * 65535)), reason="more than 8 bits"),
        AwkwardMask("real numbers", encode(Image.fromarray(square * np.float32(1)), "tif"), "tif", "more than 8 bits"),
        AwkwardMask("cut off", encode(white)[:50], reason="damaged or cut off"),
        AwkwardMask("empty file", b"", reason="empty"),
        AwkwardMask("text", b"0 0 1 1", reason="not an image"),
        AwkwardMask("JSON", b'{"shapes": []}', reason="not an image"),
        AwkwardMask("enormous", png(60_000, 60_000, 8, 0, bytes(9)), reason="pixels"),
        AwkwardMask("missing", None, reason="does not exist"),
    ]


def _broken_inside(mask: Image.Image) -> bytes:
    """A JPEG that starts and ends as it should, with a second picture begun in its middle."""
    content = encode(mask, "jpg")
    return content[:-2] + content


def _tilted(mask: Image.Image) -> Image.Image:
    return mask.rotate(30, resample=Image.Resampling.BILINEAR)


def png(
    width: int, height: int, bits: int, colour: int, rows: bytes, pixels: bool = True, packed: bytes = b""
) -> bytes:
    """A PNG file of these raw rows, filter bytes included, whether or not that is what the header declares."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = _chunk(b"IDAT", packed or zlib.compress(rows)) if pixels else b""
    return b"\x89PNG\r\n\x1a\n" + header + data + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_huge_comment(whole: bytes) -> bytes:
    """A compressed comment that is 1000 times its size when unpacked."""
    start = whole.index(b"IDAT") - 4
    return whole[:start] + _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))) + whole[start:]
