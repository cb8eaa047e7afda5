"""The cached features and text vectors, arranged for training and for the held-out measurements."""

import json
import os

import numpy as np
import torch

import image_backbone
import pictures

LABELLED = pictures.LABELLED
CAPTIONED = ("flickr8k", "coco-mini")


class Material:
    """Everything on one machine: pooled features by set and view, text vectors, the backbone's classifier."""

    def __init__(self, data, folder):
        with open(os.path.join(folder, "vocabulary.json"), encoding="utf-8") as file:
            self.vocabulary = json.load(file)
        self.folder = folder
        self.files = {s: [os.path.basename(f) for f in pictures.files_of(data, s)] for s in pictures.SETS}
        self.row_of = {phrase: row for row, phrase in enumerate(self.vocabulary["phrases"])}
        self.phrases = torch.from_numpy(np.load(os.path.join(folder, "text", "phrases.npy"))).float()
        classifier = image_backbone.load_backbone()._fc
        self.class_weight, self.class_bias = classifier.weight.detach(), classifier.bias.detach()

    def plain(self, name):
        """Pooled features of the plain view, float32 [pictures, 1280]: of `pictures.measured`, not for training."""
        grid = np.load(os.path.join(self.folder, "features", f"{name}.0.npy"))
        return torch.from_numpy(grid).float().mean(1)

    def views(self, name):
        """Features of the random views of one set, float16 [views, pictures, 9, 1280], as many as were cached."""
        found = []
        while os.path.exists(path := os.path.join(self.folder, "features", f"{name}.{len(found) + 1}.npy")):
            found.append(torch.from_numpy(np.load(path)))
        return torch.stack(found)

    def captions(self, name):
        """Caption vectors [pictures, 5, 384] in the order of the set's files."""
        texts = self.vocabulary["captions"][name]
        flat = np.load(os.path.join(self.folder, "text", f"captions.{name}.npy"))
        start, rows = {}, 0
        for file in sorted(texts):
            start[file], rows = rows, rows + len(texts[file])
        return torch.from_numpy(np.stack([flat[start[f]:start[f] + 5] for f in self.files[name]]))

    def rows(self, phrases):
        return torch.tensor([self.row_of[p] for p in phrases])

    def labels(self, name):
        """The set's label per picture, and the sorted different ones."""
        named = self.vocabulary["labels"][name]
        texts = [named[f] for f in self.files[name]]
        return texts, sorted(set(texts))

    def noun_shares(self, name):
        """Share of a picture's captions that name each learnt noun, [pictures, nouns]."""
        nouns = {n: i for i, n in enumerate(self.vocabulary["nouns"])}
        shares = torch.zeros(len(self.files[name]), len(nouns))
        for row, file in enumerate(self.files[name]):
            for noun, share in self.vocabulary["caption_nouns"][name].get(file, {}).items():
                if noun in nouns:
                    shares[row, nouns[noun]] = share
        return shares

    def membership(self):
        """[1000, groups], 1 where a hypernym stands above a class."""
        members = self.vocabulary["members"]
        matrix = torch.zeros(len(self.vocabulary["names"]), len(members))
        for column, rows in enumerate(members):
            matrix[rows, column] = 1
        return matrix

    def held_out(self, name):
        return torch.tensor([pictures.held_out(f) for f in self.files[name]])
