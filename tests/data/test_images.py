"""The reader of strangers' pictures: every mode and format becomes the declared pixels, or is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffjax.data.images import ENDINGS, FORMATS, eight_bits, opened, pixels_of, square
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 4, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (6, 4), np.uint8)
GREY = RGB[..., 0]
DEEP = np.sort(RNG.integers(0, 2**16, (6, 4))).astype(np.uint16)
WRITTEN = ("PNG", "TIFF", "BMP", "PPM", "GIF", "WEBP", "JPEG2000", "AVIF", "JPEG")


def over(colour, alpha, background):
  """A picture over a grey background, in exact numbers."""
  alpha = alpha[..., None] / 255
  return alpha * colour + (1 - alpha) * background


def with_alpha(colour):
  return Image.fromarray(np.dstack([colour, ALPHA]))


def palette_and_alpha():
  image = Image.fromarray(GREY).convert("PA")
  image.putalpha(Image.fromarray(ALPHA))
  return image


def palette(transparency):
  image = Image.fromarray(GREY % 4).convert("P")
  image.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0, 9, 9, 9])
  image.info["transparency"] = transparency
  return image


COLOURS = np.asarray([[10, 20, 30], [200, 100, 50], [0, 255, 0], [9, 9, 9]])
# name -> (picture, formats that keep it, what it is over a background of 40, grey or RGB)
PICTURES = {
  "1": (Image.fromarray(GREY > 99), ("PNG", "TIFF", "BMP", "PPM"), 255.0 * (GREY > 99)),
  "L": (Image.fromarray(GREY), ("PNG", "TIFF", "BMP", "PPM", "JPEG2000"), GREY),
  "LA": (with_alpha(GREY), ("PNG", "TIFF", "JPEG2000"), over(GREY[..., None], ALPHA, 40)[..., 0]),
  "RGB": (Image.fromarray(RGB), ("PNG", "TIFF", "BMP", "PPM", "JPEG2000"), RGB),
  "RGBA": (with_alpha(RGB), ("PNG", "TIFF", "JPEG2000"), over(RGB, ALPHA, 40)),
  "PA": (palette_and_alpha(), ("TIFF",), over(np.repeat(GREY[..., None], 3, 2), ALPHA, 40)),
  "P with a transparent colour": (
    palette(1), ("PNG", "GIF"), np.where((GREY % 4 == 1)[..., None], 40, COLOURS[GREY % 4])
  ),
  "P with an alpha of each colour": (
    palette(bytes([255, 0, 128, 255])),
    ("PNG",),
    over(COLOURS[GREY % 4], np.asarray([255, 0, 128, 255])[GREY % 4], 40),
  ),
  "I;16": (Image.fromarray(DEEP), ("PNG", "TIFF", "PPM", "JPEG2000"), DEEP / 257),
  "I;16B": (Image.frombytes("I;16B", (4, 6), DEEP.astype(">u2").tobytes()), ("TIFF", "PNG"), DEEP / 257),
  "CMYK": (Image.fromarray(RGB).convert("CMYK"), ("TIFF",), RGB),
}  # fmt: skip


def saved(image, form, **options):
  file = io.BytesIO()
  image.save(file, form, **options)
  file.seek(0)
  return file


@pytest.mark.parametrize("name", PICTURES)
def test_pixels_are_those_that_were_meant(name):
  image, forms, want = PICTURES[name]
  for form in forms:
    result = opened(saved(image, form, **({"transparency": image.info["transparency"]} if "P with" in name else {})),
                   background=40)  # fmt: skip
    assert result.image.mode == ("L" if want.ndim == 2 else "RGB"), form
    np.testing.assert_allclose(np.asarray(result.image, float), want, atol=1.01, err_msg=form)
    assert ("transparent" in result.notes) == ("A" in name or "P with" in name), form
    wanted = opened(saved(image, form), 3).image, opened(saved(image, form), 1).image
    assert [one.mode for one in wanted] == ["RGB", "L"]


def test_a_deep_grey_value_may_be_transparent():
  file = saved(Image.fromarray(DEEP), "PNG", transparency=int(DEEP[2, 1]))
  want = np.where(DEEP == DEEP[2, 1], 40, DEEP / 257)
  np.testing.assert_allclose(np.asarray(opened(file, background=40).image, float), want, atol=1.01)


@pytest.mark.parametrize("mode", [*Image.MODES])
def test_every_mode_and_format_is_read_or_refused_by_name(mode):
  data = np.tile(RGB, (1, 1, 6)).tobytes()
  tried = 0
  for form in FORMATS:
    try:
      file = saved(Image.frombytes(mode, (4, 6), data[: len(Image.new(mode, (4, 6)).tobytes())]), form)
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
      continue  # Pillow does not write it
    tried += 1
    known = Image.open(file).mode not in ("F", "I") or form in ("PNG", "PPM") and mode != "F"
    file.seek(0)
    for channels in (1, 3):
      if known:
        assert square(opened(file, channels).image, 5).shape == (5, 5, channels)
      else:
        with pytest.raises(ConfigError, match=r"a\.tif cannot be read as an image \(its pixels are"):
          opened(file, channels, name="a.tif")
  assert tried or mode in ("La",)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_cameras_orientation_is_heard(form):
  up = np.asarray(Image.fromarray(RGB[..., 0] // 2).resize((16, 24)))
  turned = {1: up, 2: up[:, ::-1], 3: up[::-1, ::-1], 4: up[::-1], 5: up.T, 6: np.rot90(up), 7: up[::-1, ::-1].T,
            8: np.rot90(up, -1)}  # fmt: skip
  for number, stored in turned.items():
    exif = Image.Exif()
    exif[0x0112] = number
    options = {"quality": 95} if form == "JPEG" else {}
    result = opened(saved(Image.fromarray(stored), form, exif=exif, **options), 1).image
    np.testing.assert_allclose(np.asarray(result, float), up, atol=12, err_msg=str(number))


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG", "AVIF"])
def test_of_several_frames_the_first_is_read_and_said(form):
  frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
  result = opened(saved(frames[0], form, save_all=True, append_images=frames[1:]))
  assert result.notes == ("of several frames",) and not opened(saved(frames[0], form)).notes
  np.testing.assert_allclose(pixels_of(result.image)[4, 4], [255, 0, 0], atol=3)


def test_depths_are_known_or_refused():
  np.testing.assert_array_equal(eight_bits(np.asarray([False, True])), [0, 255])
  every = np.arange(2**16, dtype=np.uint16)
  np.testing.assert_array_equal(eight_bits(every), np.round(every / 257))
  np.testing.assert_array_equal(eight_bits(every.astype(">u2")), np.round(every / 257))
  for dtype in ("int8", "int16", "uint32", "int64", "float16", "float32", "float64", "complex64"):
    with pytest.raises(ConfigError, match=dtype):
      eight_bits(np.zeros(3, dtype))


def chunk(kind, content):
  return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_what_is_no_picture_is_refused_by_name(tmp_path):
  header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
  bodies = {
    "empty.png": b"",
    "text.jpg": b"no picture",
    "huge.png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))),
    "other.png": saved(Image.fromarray(RGB), "PCX").getvalue(),  # which Pillow would read
    "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",  # Pillow would start Ghostscript
  }
  for name, body in bodies.items():
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ConfigError, match=f"{name} cannot be read as an image .* mend, convert or remove it"):
      opened(tmp_path / name)


def test_a_damaged_file_is_a_picture_or_refused_by_name():
  rng, outcomes = np.random.default_rng(1), {True: 0, False: 0}
  noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
  for form in WRITTEN:
    whole = saved(noise, form).getvalue()
    for k in range(40):
      body = bytearray(whole)
      if k % 2:
        del body[int(rng.integers(len(body))) :]
      else:
        for place in rng.integers(0, len(body) if k % 4 else 60, 3):
          body[place] = rng.integers(256)
      try:
        result = square(opened(io.BytesIO(bytes(body)), 3, name="the file").image, 8)
      except ConfigError as error:
        assert str(error).startswith("the file cannot be read as an image (")
        outcomes[False] += 1
      else:
        assert result.shape == (8, 8, 3) and result.dtype == np.uint8
        outcomes[True] += 1
  assert min(outcomes.values()) > 20


def test_endings_are_of_formats_that_are_read():
  Image.init()
  known = {ending for ending, form in Image.registered_extensions().items() if form in (*FORMATS, "MPO")}
  assert ENDINGS - {".mpo"} <= known
