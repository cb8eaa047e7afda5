"""Photos as image-tower inputs, prepared by open_clip's own transform (Pillow underneath)."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

# Photos of free licence that scikit-image's wheel carries; none is square but the first.
NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")


def photos(folder: Path | None = None) -> list[Image.Image]:
    """scikit-image's photos, or the first 16 pictures of a folder."""
    if folder is None:
        paths = [Path(skimage.__file__).parent / "data" / name for name in NAMES]
    else:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[:16]
    return [Image.open(path).convert("RGB") for path in paths]


def crops(pictures: list[Image.Image]) -> list[Image.Image]:
    """Each photo whole and its four quarters: more varied content for statistics than whole photos alone."""
    out = []
    for picture in pictures:
        w, h = picture.size
        x, y = w // 2, h // 2
        boxes = [(0, 0, w, h), (0, 0, x, y), (x, 0, w, y), (0, y, x, h), (x, y, w, h)]
        out.extend(picture.crop(box) for box in boxes)
    return out


def prepare(picture: Image.Image, preprocessing) -> tuple[Image.Image, np.ndarray]:
    """The picture at the tower's size in 8 bits, and the tensor [3, size, size] the tower takes."""
    cfg = PreprocessCfg(size=preprocessing.size, mean=preprocessing.mean, std=preprocessing.std,
                        interpolation=preprocessing.interpolation, resize_mode=preprocessing.resize_mode)
    transform = image_transform_v2(cfg, is_train=False)
    if preprocessing.resize_size is not None:  # torchvision's classifiers: resize to more, then crop
        transform.transforms[0].size = preprocessing.resize_size
    small = picture.convert("RGB")
    for step in transform.transforms:
        result = step(small)
        if not isinstance(result, Image.Image):
            break
        small = result
    return small, transform(picture).numpy()


def tensors(pictures: list[Image.Image], preprocessing) -> np.ndarray:
    """Tower inputs [n, 3, size, size] in f32."""
    return np.stack([prepare(picture, preprocessing)[1] for picture in pictures]).astype(np.float32)
