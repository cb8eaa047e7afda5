"""Embeddings by the int8 towers that the calibration is fitted on. None of the pictures' labels was trained on:
the calibration set, the held-out twentieth of the training sets, and nips2017 (trained on without its labels).
"""

import os

import torch

import held_out
import pictures
from evaluate import DEFAULT_TEMPLATES
from material import LABELLED
from towers import Towers


class Naming:
    """Pictures with one right label each among many."""

    def __init__(self, images, labels, truth, kin=None):
        self.images, self.labels, self.truth = images, labels, truth
        # labels too near to the right one to count as wrong, [labels, labels]
        self.kin = torch.eye(len(labels), dtype=torch.bool) if kin is None else kin

    def every_other(self, first):
        return Naming(self.images[first::2], self.labels, self.truth[first::2], self.kin)


def siblings(vocabulary):
    """Classes that share a hypernym of at most ten classes."""
    kin = torch.eye(len(vocabulary["names"]), dtype=torch.bool)
    for members in vocabulary["members"]:
        if len(members) <= 10:
            rows = torch.tensor(members)
            kin[rows[:, None], rows[None]] = True
    return kin


def gather(data, package, material):
    """{task name: Naming}, and (images, captions [n, 5, d]) of held-out captioned pictures."""
    towers = Towers(package)
    label = lambda names: towers.labels(names, DEFAULT_TEMPLATES)
    files = lambda name: pictures.files_of(data, name)
    vocabulary = material.vocabulary
    texts, _ = material.labels("nips2017")
    nips = towers.images(files("nips2017"))
    names = vocabulary["names"]
    tasks = {"names": Naming(nips, label(names), torch.tensor([names.index(t) for t in texts]), siblings(vocabulary))}
    rows, truth, words = held_out.everyday_truth(material)
    tasks["everyday"] = Naming(nips[rows], label(words), truth)
    for name in LABELLED:
        texts, different = material.labels(name)
        keep = [i for i, f in enumerate(files(name)) if pictures.held_out(f)]
        images = towers.images([files(name)[i] for i in keep])
        tasks[name] = Naming(images, label(different), torch.tensor([different.index(texts[i]) for i in keep]))
    captioned = [("calib", f) for f in files("calib")]
    captioned += [("flickr8k", f) for f in files("flickr8k") if pictures.held_out(f)]
    images = towers.images([f for _, f in captioned])
    captions = [vocabulary["captions"][s][os.path.basename(f)] for s, f in captioned]
    captions = towers.texts([c for five in captions for c in five]).reshape(len(images), 5, -1)
    nouns = label(vocabulary["nouns"])
    shares = torch.stack([material.noun_shares(s)[material.files[s].index(os.path.basename(f))] for s, f in captioned])
    everywhere = torch.cat([towers.images(files(s)[::6]) for s in ("osie", "bsds500", "coco-mini", "coco-256")])
    return {"tasks": tasks, "images": images, "captions": captions, "nouns": nouns, "shares": shares,
            "everywhere": everywhere, "common": label(vocabulary["common"][::3])}
