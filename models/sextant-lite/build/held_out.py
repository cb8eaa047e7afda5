"""Measurements that choose between settings: held-out pictures of the training sets and the calibration set.

With `--study` heads have seen no label and nothing of nips2017, so the labelled sets stand in for unseen ones.
"""

import torch

import measure
import pictures
from material import LABELLED

# Words that people type; a picture counts where exactly one of them stands above its class.
EVERYDAY = (
    "dog", "cat", "bird", "fish", "snake", "lizard", "turtle", "frog", "spider", "insect", "butterfly", "monkey", "bear",
    "fox", "rabbit", "car", "truck", "boat", "airplane", "train", "bicycle", "chair", "table", "bottle", "hat", "shoe",
    "garment", "vegetable", "fruit", "musical instrument", "weapon", "tool", "ball", "computer", "building", "bridge",
    "mountain", "flower", "mushroom", "camera", "clock", "bag", "bed", "telephone", "cup", "plate", "helmet", "knife",
)


def everyday_truth(material):
    """(indices of nips2017 pictures, their word, the words used)."""
    vocabulary = material.vocabulary
    above = {k: set() for k in range(1000)}
    words = [w for w in EVERYDAY if any(w in g for g in vocabulary["groups"])]
    for group, members in zip(vocabulary["groups"], vocabulary["members"]):
        for word in words:
            if word in group:
                for member in members:
                    above[member].add(word)
    for k, synonyms in enumerate(vocabulary["synonyms"]):
        above[k].update(w for w in words if w in synonyms)
    texts, _ = material.labels("nips2017")
    index = {n: k for k, n in enumerate(vocabulary["names"])}
    rows, truth = [], []
    for row, text in enumerate(texts):
        found = above.get(index.get(text, -1), ())
        if len(found) == 1:
            rows.append(row)
            truth.append(words.index(next(iter(found))))
    return torch.tensor(rows), torch.tensor(truth), words


@torch.no_grad()
def report(heads, material, everything=False, templates=4):
    label = lambda texts: measure.ensemble(heads.text(material.phrases[material.rows(texts)][:, :templates]))
    image = lambda name: heads.image(material.plain(name))
    result = {}
    keep = material.held_out("flickr8k")
    images = torch.cat([image("calib"), image("flickr8k")])
    captions = torch.cat([material.captions("calib"), material.captions("flickr8k")[keep]])
    owner = torch.arange(len(images)).repeat_interleave(5)
    result.update(measure.recall(images, heads.text(captions).flatten(0, 1), owner))
    names = material.vocabulary["names"]
    texts, _ = material.labels("nips2017")
    truth = torch.tensor([names.index(t) for t in texts])
    result["names@1"] = measure.top(image("nips2017"), label(names), truth)
    result["names@5"] = measure.top(image("nips2017"), label(names), truth, 5)
    rows, truth, words = everyday_truth(material)
    result["everyday"] = measure.top(image("nips2017")[rows], label(words), truth)
    total = 0.0
    for name in LABELLED:
        texts, different = material.labels(name)
        rows = torch.ones(len(texts), dtype=torch.bool) if everything else material.held_out(name)
        truth = torch.tensor([different.index(t) for t in texts])[rows]
        result[name] = measure.top(image(name)[rows], label(different), truth)
        total += result[name] / len(LABELLED)
    result["labelled"] = total
    return {k: round(100 * v, 1) for k, v in result.items()}
