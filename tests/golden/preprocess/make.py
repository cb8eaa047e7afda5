#!/usr/bin/env python3
"""Makes the golden files of the preprocessing tests.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

Sources are small synthetic pictures in every format and variety that is promised; what is expected
of them comes from Pillow (decoding, resizing) and from torchvision and open_clip (sizes, crops,
normalisation). Nothing here is drawn at random twice: one seed, one order.

Writes, beside this script:
  source/*            the picture files
  decoded/*.bin       their upright 8-bit RGB or RGBA samples
  resized/*.bin       RGB samples after resizing and cropping
  cases.json          which is which
"""

import io
import json
import pathlib
import shutil
import struct
import zlib

import numpy as np
import torch
from open_clip.transform import CenterCropOrPad, ResizeKeepRatio
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, InterpolationMode, Normalize, Resize, ToTensor

HERE = pathlib.Path(__file__).parent
BACKGROUND = (250, 120, 30)
FILL = (10, 200, 90)
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
rng = np.random.default_rng(20)


# Sources ----------------------------------------------------------------------------------------


def scene(width, height, channels=3):
    """Slopes, a hard-edged grid, a disc and some noise: something for every kind of error."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = []
    for channel in range(channels):
        slope = 255 * (x / max(width - 1, 1) * (channel + 1) / channels + y / height) / 2
        grid = 80.0 * (((x // 5) + (y // (3 + channel))) % 2)
        disc = -90.0 * (np.hypot(x - width * 0.6, y - height * 0.4) < min(width, height) / 3)
        planes.append(slope + grid + disc + rng.normal(0, 12, (height, width)))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def smooth(width, height, channels=3):
    """What a camera gives: no hard edges, little noise."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = [
        127 + 90 * np.sin(x / (5 + c) + c) * np.cos(y / (7 + c)) + rng.normal(0, 2, (height, width))
        for c in range(channels)
    ]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def opacity(width, height):
    """From clear to solid, both extremes included."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    return np.clip(320 * (x + y) / (width + height) - 30, 0, 255).astype(np.uint8)


def rgba(width, height):
    return np.dstack([scene(width, height), opacity(width, height)])


def formula(width, height):
    """Pixels that the tests can compute themselves: no file is needed for a huge picture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.uint32)
    planes = [x * 7 + y * 13 + (x * y >> 5), x * x // 97 + y * 3, (x ^ y) + (x * y >> 9)]
    return (np.stack(planes, -1) & 255).astype(np.uint8)


def png(width, height, depth, colour, rows, chunks=()):
    """A PNG of a kind that Pillow does not write; `rows` are packed samples without filter bytes."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    extra = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def interlaced(pixels):
    """An Adam7 PNG of 8-bit RGB."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = []
    for left, top, across, down in passes:
        part = pixels[top::down, left::across]
        if part.size:
            rows += [row.tobytes() for row in part]
    height, width = pixels.shape[:2]
    made = bytearray(png(width, height, 8, 2, rows))
    made[28] = 1  # interlace method, then the header's checksum again
    made[29:33] = struct.pack(">I", zlib.crc32(bytes(made[12:29])))
    return bytes(made)


def sixteen(pixels):
    """8-bit samples widened to 16 bits with noise in the low byte, big-endian."""
    low = rng.integers(0, 256, pixels.shape, dtype=np.uint16)
    return (pixels.astype(np.uint16) * 256 + low).astype(">u2")


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def without_adobe(jpeg):
    """Drops the Adobe segment (APP14), which says that CMYK is stored inverted."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0] :]


def run_lengths(image):
    """A BMP compressed by run lengths (RLE8), which Pillow reads but does not write."""
    made = encoded(image, "BMP")
    offset = struct.unpack("<I", made[10:14])[0]
    stride = (image.width + 3) // 4 * 4
    body = b""
    for y in range(image.height):
        row = made[offset + y * stride :][: image.width]
        for value in row:
            body += bytes([1, value])
        body += b"\0\0"
    body += b"\0\1"
    header = bytearray(made[:offset])
    header[2:6] = struct.pack("<I", offset + len(body))
    header[30:38] = struct.pack("<II", 1, len(body))
    return bytes(header) + body


def with_adobe_transform(jpeg, transform):
    """Another colour transform in the Adobe segment: with 2, the inks are stored as YCCK."""
    made = bytearray(jpeg)
    made[jpeg.index(b"Adobe") + 11] = transform
    return bytes(made)


def make_sources():
    width, height = 61, 37
    picture = Image.fromarray(scene(width, height))
    photo = Image.fromarray(smooth(width, height))
    grey = Image.fromarray(scene(width, height, 1)[..., 0])
    clear = Image.fromarray(rgba(width, height))
    palette = picture.quantize(32)
    files = {}

    # PNG
    files["rgb.png"] = encoded(picture, "PNG")
    files["rgba.png"] = encoded(clear, "PNG")
    files["grey.png"] = encoded(grey, "PNG")
    files["grey-alpha.png"] = encoded(clear.convert("LA"), "PNG")
    files["palette.png"] = encoded(palette, "PNG")
    files["palette-clear.png"] = encoded(palette, "PNG", transparency=bytes(range(0, 256, 8)))
    files["palette-4bit.png"] = encoded(picture.quantize(13), "PNG", bits=4)
    files["1bit.png"] = encoded(grey.point(lambda v: 255 * (v > 120)).convert("1"), "PNG")
    two_bit = scene(width, height, 1)[..., 0] >> 6
    padded = np.pad(two_bit, ((0, 0), (0, -width % 4))).reshape(height, -1, 4)
    packed = (padded << np.array([6, 4, 2, 0], np.uint8)).sum(-1).astype(np.uint8)
    files["grey-2bit.png"] = png(width, height, 2, 0, [row.tobytes() for row in packed])
    for name, colour, channels in [("grey", 0, 1), ("rgb", 2, 3), ("grey-alpha", 4, 2), ("rgba", 6, 4)]:
        pixels = sixteen(scene(width, height, channels))
        files[f"{name}-16bit.png"] = png(width, height, 16, colour, [row.tobytes() for row in pixels])
    colour_key = scene(width, height)
    colour_key[5:20, 10:30] = (1, 2, 3)
    key = [(b"tRNS", struct.pack(">HHH", 1, 2, 3))]
    files["rgb-key.png"] = png(width, height, 8, 2, [row.tobytes() for row in colour_key], key)
    files["interlaced.png"] = interlaced(scene(width, height))
    files["oriented.png"] = encoded(picture, "PNG", exif=oriented(6))

    # JPEG
    files["420.jpg"] = encoded(photo, "JPEG", quality=90, subsampling="4:2:0")
    files["422.jpg"] = encoded(photo, "JPEG", quality=90, subsampling="4:2:2")
    files["444.jpg"] = encoded(photo, "JPEG", quality=90, subsampling="4:4:4")
    files["hard.jpg"] = encoded(picture, "JPEG", quality=75)
    files["progressive.jpg"] = encoded(photo, "JPEG", quality=85, progressive=True)
    files["restart.jpg"] = encoded(photo, "JPEG", quality=85, restart_marker_blocks=2)
    files["grey.jpg"] = encoded(grey, "JPEG", quality=90)
    files["rgb.jpg"] = encoded(photo, "JPEG", quality=90, keep_rgb=True)
    inks = Image.fromarray(smooth(width, height, 4), "CMYK")
    files["cmyk.jpg"] = encoded(inks, "JPEG", quality=92)
    files["cmyk-plain.jpg"] = without_adobe(files["cmyk.jpg"])
    files["ycck.jpg"] = with_adobe_transform(files["cmyk.jpg"], 2)
    for orientation in range(1, 9):
        upright = Image.fromarray(smooth(29, 18))
        files[f"oriented-{orientation}.jpg"] = encoded(upright, "JPEG", quality=90, exif=oriented(orientation))

    # The others
    files["lossless.webp"] = encoded(picture, "WEBP", lossless=True)
    files["lossless-alpha.webp"] = encoded(clear, "WEBP", lossless=True, exact=True)
    files["lossy.webp"] = encoded(photo, "WEBP", quality=85)
    files["lossy-alpha.webp"] = encoded(clear, "WEBP", quality=85)
    files["oriented.webp"] = encoded(picture, "WEBP", lossless=True, exif=oriented(8))
    frames = [Image.fromarray(smooth(width, height)).quantize(32) for _ in range(3)]
    files["animated.webp"] = encoded(picture, "WEBP", lossless=True, save_all=True, append_images=frames[:1])
    files["animated.gif"] = encoded(palette, "GIF", save_all=True, append_images=frames, duration=40)
    files["clear.gif"] = encoded(palette, "GIF", transparency=3)
    files["interlaced.gif"] = encoded(palette, "GIF", interlace=1)
    files["rgb.bmp"] = encoded(picture, "BMP")
    files["rgba.bmp"] = encoded(clear, "BMP")
    files["palette-rle.bmp"] = run_lengths(palette)
    files["palette.bmp"] = encoded(palette, "BMP")
    files["1bit.bmp"] = encoded(grey.convert("1"), "BMP")
    for name, compression in [("plain", None), ("lzw", "tiff_lzw"), ("deflate", "tiff_adobe_deflate"), ("packbits", "packbits")]:
        files[f"{name}.tif"] = encoded(picture, "TIFF", compression=compression)
    files["rgba.tif"] = encoded(clear, "TIFF", compression="tiff_lzw")
    files["palette-lzw.tif"] = encoded(palette, "TIFF", compression="tiff_lzw")
    files["grey.tif"] = encoded(grey, "TIFF")
    files["1bit.tif"] = encoded(grey.convert("1"), "TIFF")
    files["palette.tif"] = encoded(palette, "TIFF")
    files["cmyk.tif"] = encoded(inks, "TIFF")
    files["grey-16bit.tif"] = encoded(Image.fromarray(sixteen(scene(width, height, 1))[..., 0].astype("<u2")), "TIFF")
    files["oriented.tif"] = encoded(picture, "TIFF", tiffinfo={0x0112: 5})

    # Odd sizes
    files["1x1.png"] = encoded(Image.fromarray(scene(1, 1)), "PNG")
    files["1x1.jpg"] = encoded(Image.fromarray(scene(1, 1)), "JPEG", quality=95)
    files["2x3.png"] = encoded(Image.fromarray(scene(2, 3)), "PNG")
    files["1x5000.png"] = encoded(Image.fromarray(formula(1, 5000)), "PNG")
    files["5000x1.png"] = encoded(Image.fromarray(formula(5000, 1)), "PNG")
    files["noise.png"] = encoded(Image.fromarray(rng.choice([0, 255], (67, 83, 3)).astype(np.uint8)), "PNG")
    return files


# References -------------------------------------------------------------------------------------


def decode(data):
    """Upright, 8 bits, RGB or RGBA."""
    image = Image.open(io.BytesIO(data))
    image.seek(0)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow's convert() would clip every value over 255 to white; its other 16-bit modes keep
        # the high byte, so that is what is expected here too.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    solid = image.mode == "RGBA" and image.getextrema()[3] == (255, 255)
    return image.convert("RGB") if solid else image


def opaque(image):
    if image.mode == "RGB":
        return image
    under = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(under, image).convert("RGB")


def resize(image, spec):
    """The steps of open_clip's image_transform(), in its words."""
    mode = InterpolationMode[spec["interpolation"].upper()]
    width, height = spec["resize_size"]
    crop = spec.get("crop", spec["resize_size"])[::-1]
    if spec["resize"] == "squash":
        image = Resize((height, width), interpolation=mode)(image)
    elif spec["resize"] == "shortest" and width == height:
        image = Resize(width, interpolation=mode)(image)
    elif spec["resize"] == "shortest":
        image = ResizeKeepRatio((height, width), interpolation=mode)(image)
    elif min(ResizeKeepRatio.get_params(image, (height, width), 1.0)) == 0:
        # Pillow refuses a side of nothing; one pixel is kept.
        sides = [max(side, 1) for side in ResizeKeepRatio.get_params(image, (height, width), 1.0)]
        image = Resize(sides, interpolation=mode)(image)
    else:
        image = ResizeKeepRatio((height, width), longest=1, interpolation=mode)(image)
    if spec["resize"] == "longest":
        return CenterCropOrPad(crop, fill=FILL)(image)
    padded = CenterCropOrPad(crop, fill=FILL)(image)
    if image.height >= crop[0] and image.width >= crop[1]:
        assert np.array_equal(CenterCrop(crop)(image), padded)
    return padded


def spec(resize, size, interpolation="bicubic", crop=None):
    made = {"resize": resize, "resize_size": list(size), "interpolation": interpolation}
    made |= {"mean": MEAN, "std": STD, "fill": FILL, "background": BACKGROUND}
    return made | ({"crop": list(crop)} if crop else {})


SPECS = {
    "shortest-32": spec("shortest", (32, 32)),
    "shortest-32-bilinear": spec("shortest", (32, 32), "bilinear"),
    "shortest-50-crop-32": spec("shortest", (50, 50), crop=(32, 32)),
    "shortest-24-crop-31x40": spec("shortest", (24, 24), crop=(31, 40)),
    "shortest-40x28": spec("shortest", (40, 28)),
    "squash-32": spec("squash", (32, 32)),
    "squash-45x21-bilinear": spec("squash", (45, 21), "bilinear"),
    "longest-32": spec("longest", (32, 32)),
    "longest-27x44-bilinear": spec("longest", (27, 44), "bilinear"),
}
ALL_SPECS = ["rgb.png", "noise.png", "rgba.png", "2x3.png", "1x5000.png", "5000x1.png", "1x1.png"]


def write(folder, name, data):
    path = HERE / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main():
    for folder in ["source", "decoded", "resized"]:
        shutil.rmtree(HERE / folder, ignore_errors=True)
    decoded, resized = [], []
    for name, data in make_sources().items():
        image = decode(data)
        write("source", name, data)
        if name.startswith(("5000x1", "1x5000")):
            pass  # The tests compute these.
        else:
            write("decoded", name + ".bin", image.tobytes())
            decoded.append({"source": name, "width": image.width, "height": image.height, "channels": len(image.mode)})
        for label in SPECS if name in ALL_SPECS else ["shortest-32"]:
            made = resize(opaque(image), SPECS[label])
            write("resized", f"{name}.{label}.bin", made.tobytes())
            resized.append({"source": name, "spec": label})

    for width, height in [(6000, 4000), (333, 1999)]:
        huge = Image.fromarray(formula(width, height))
        for label in ["shortest-32", "squash-45x21-bilinear", "longest-32"]:
            made = resize(huge, SPECS[label])
            write("resized", f"formula-{width}x{height}.{label}.bin", made.tobytes())
            resized.append({"formula": [width, height], "spec": label})

    small = resize(decode((HERE / "source/rgb.png").read_bytes()), SPECS["longest-32"])
    tensor = Normalize(MEAN, STD)(ToTensor()(small))
    write("resized", "tensor.bin", tensor.to(torch.float32).numpy().astype("<f4").tobytes())
    cases = {"specs": SPECS, "decoded": decoded, "resized": resized}
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
