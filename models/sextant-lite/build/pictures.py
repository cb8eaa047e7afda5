"""The picture sets of the data folder, and how a picture becomes the pixels of the image tower."""

import csv
import hashlib
import os
import random

import numpy as np
from PIL import Image

SIDE = 260
RESIZE = 260
MEAN = 127 / 255
DEVIATION = 128 / 255

# name: (folder, may a product be trained on it without asking further?, were the pictures squashed to a square?)
SETS = {
    "flickr8k": ("train/flickr8k-train", False, True),
    "coco-mini": ("train/coco-mini", False, False),
    "nips2017": ("train/photos/nips2017-imagenet-compatible", True, False),
    "osie": ("train/photos/osie", False, False),
    "bsds500": ("train/photos/bsds500", False, False),
    "coco-256": ("train/photos/coco-256", False, True),
    "houses": ("train/photos/houses", False, False),
    "grocery": ("train/photos/grocery-store", True, False),
    "clothing": ("train/photos/clothing", True, False),
    "pacs": ("train/photos/pacs-photo", False, True),
    "dreambooth": ("train/photos/dreambooth", True, False),
    "camvid": ("train/photos/camvid-street", False, False),
    "textures": ("train/photos/textures-10", False, False),
    "tiny-imagenet": ("train/photos/tiny-imagenet-64", False, True),
    "calib": ("calib/flickr8k-188", False, False),
}

LABELLED = ("houses", "grocery", "clothing", "pacs", "dreambooth", "textures")


def files_of(data, name):
    folder = os.path.join(data, SETS[name][0], "images")
    return [os.path.join(folder, f) for f in sorted(os.listdir(folder)) if f.endswith(".jpg")]


def read_table(data, name, table):
    """Rows of captions.tsv or labels.tsv; an absent file has none."""
    path = os.path.join(data, SETS[name][0], table)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]


def held_out(file):
    """One picture in twenty is kept from training, for choosing between settings and for calibration."""
    return hashlib.sha256(os.path.basename(file).encode()).digest()[0] < 13


def measured(data, name):
    """The pictures that are looked at in their plain view: those kept from training, and the labelled ones."""
    if name in ("calib", "nips2017") or name in LABELLED:
        return files_of(data, name)
    return [f for f in files_of(data, name) if held_out(f)] if name == "flickr8k" else []


def plain_view(picture):
    """The tower's own preprocessing: shorter side to 260, centre crop of 260."""
    width, height = picture.size
    short = min(width, height)
    size = (int(RESIZE * width / short), int(RESIZE * height / short))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
    return picture.crop((left, top, left + SIDE, top + SIDE))


def random_view(picture, squashed, dice):
    """A random crop of 35 to 100 % of the area, its aspect changed by at most a third, flipped half the time."""
    width, height = picture.size
    if squashed:  # most of these were 4:3 or 3:4 before
        width = width * dice.choice((4 / 3, 4 / 3, 1.0, 3 / 4))
    area = dice.uniform(0.35, 1.0)
    ratio = np.exp(dice.uniform(-0.25, 0.25))
    crop_width = min(1.0, np.sqrt(area * width * height * ratio) / width)
    crop_height = min(1.0, np.sqrt(area * width * height / ratio) / height)
    left, top = dice.uniform(0, 1 - crop_width), dice.uniform(0, 1 - crop_height)
    across, down = picture.size
    box = (left * across, top * down, (left + crop_width) * across, (top + crop_height) * down)
    view = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if dice.random() < 0.5 else view


def to_pixels(view):
    pixels = (np.asarray(view, dtype=np.float32) - 127.0) / 128.0
    return pixels.transpose(2, 0, 1)


def random_views(name, views):
    """How many random views of a set's pictures are worth their time: thumbnails gain nothing from more."""
    return 1 if name == "tiny-imagenet" else 0 if name == "calib" else views


def load_view(file, number, squashed=False):
    """View 0 is the plain one; the others are random, but the same in every run."""
    picture = Image.open(file).convert("RGB")
    if number == 0:
        return to_pixels(plain_view(picture))
    dice = random.Random(f"{os.path.basename(file)} {number}")
    return to_pixels(random_view(picture, squashed, dice))
