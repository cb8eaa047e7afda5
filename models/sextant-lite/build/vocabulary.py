"""The words that the heads learn from, and their text vectors.

Writes FOLDER/text/*.npy and FOLDER/vocabulary.json. A phrase is encoded under every template; a caption alone.
"""

import argparse
import importlib.util
import json
import os
import re
from collections import Counter

import numpy as np
import torch

import pictures
import text_backbone
from wordnet import THINGS, WordNet

# The package's default prompts are the first four; the heads are trained with all of them.
TEMPLATES = (
    "a photo of a {}",
    "a picture of the {}",
    "there is a {} here",
    "{}",
    "a close view of one {}",
    "some {} seen from afar",
    "a snapshot with a {} in it",
)
LEAST_CAPTIONED = 6  # pictures whose captions name a noun, for it to be learnt
LEAST_USED = 2  # times WordNet's tagged corpus uses a common noun


def imagenet_offsets():
    """WordNet offsets of the backbone's 1000 outputs, from the list that timm carries."""
    folder = os.path.dirname(importlib.util.find_spec("timm").origin)
    with open(os.path.join(folder, "data", "_info", "imagenet_synsets.txt")) as file:
        return [line.strip()[1:] for line in file]


def caption_nouns(wordnet, captions):
    """Visible nouns of a picture's captions, with the share of the captions that name each."""
    counts = Counter()
    for caption in captions:
        words = re.findall(r"[a-z]+", caption.lower())
        pairs = [f"{a} {b}" for a, b in zip(words, words[1:])]
        lemmas = {wordnet.lemma(w) for w in words + pairs} - {None}
        # "ice cream" hides "ice" and "cream"
        inside = {part for lemma in lemmas if " " in lemma for part in lemma.split()}
        counts.update(l for l in lemmas - inside if wordnet.is_visible(l))
    return {lemma: count / len(captions) for lemma, count in counts.items()}


def read_captions(data, name):
    captions = {}
    for file, _, caption in pictures.read_table(data, name, "captions.tsv"):
        captions.setdefault(file, []).append(caption.strip())
    return captions


def build(data, wordnet_folder):
    wordnet = WordNet(wordnet_folder)
    with open(os.path.join(data, "names", "imagenet1k.txt"), encoding="utf-8") as file:
        names = [line.strip() for line in file][:1000]
    offsets = imagenet_offsets()
    above = Counter(a for o in offsets for a in wordnet.ancestors(o))
    groups = sorted(a for a, count in above.items() if 2 <= count <= 450)
    captions = {s: read_captions(data, s) for s in ("flickr8k", "coco-mini", "calib")}
    nouns = {s: {f: caption_nouns(wordnet, c) for f, c in captions[s].items()} for s in captions}
    seen = Counter(n for s in ("flickr8k", "coco-mini") for named in nouns[s].values() for n in named)
    labels = {s: dict(pictures.read_table(data, s, "labels.tsv")) for s in pictures.SETS}
    common = sorted(l for l, c in wordnet.counts.items()
                    if c >= LEAST_USED and wordnet.is_visible(l, THINGS) and re.fullmatch(r"[a-z]+( [a-z]+)*", l))
    return {
        "templates": TEMPLATES, "names": names, "offsets": offsets,
        "synonyms": [wordnet.synsets[o].words for o in offsets],
        "groups": [wordnet.synsets[g].words[:3] for g in groups], "group_offsets": groups,
        "members": [[k for k, o in enumerate(offsets) if g in wordnet.ancestors(o)] for g in groups],
        "nouns": sorted(n for n, count in seen.items() if count >= LEAST_CAPTIONED), "common": common,
        "labels": labels, "captions": captions, "caption_nouns": nouns,
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data")
    arguments.add_argument("folder")
    arguments.add_argument("--wordnet", default="/usr/share/wordnet")
    arguments = arguments.parse_args()
    torch.set_num_threads(1)  # short texts: threads cost more than they bring
    folder = os.path.join(arguments.folder, "text")
    os.makedirs(folder, exist_ok=True)
    vocabulary = build(arguments.data, arguments.wordnet)
    phrases = set(vocabulary["names"]) | set(vocabulary["nouns"]) | set(vocabulary["common"])
    phrases.update(w for words in vocabulary["synonyms"] + vocabulary["groups"] for w in words)
    phrases.update(l for named in vocabulary["labels"].values() for l in named.values())
    vocabulary["phrases"] = sorted(phrases)
    with open(os.path.join(arguments.folder, "vocabulary.json"), "w", encoding="utf-8") as file:
        json.dump(vocabulary, file)
    backbone, tokenizer = text_backbone.load_backbone(), text_backbone.load_tokenizer()
    for name, captions in vocabulary["captions"].items():
        texts = [c for file in sorted(captions) for c in captions[file]]
        print(name, len(texts), "captions", flush=True)
        np.save(os.path.join(folder, f"captions.{name}.npy"), text_backbone.encode(texts, backbone, tokenizer))
    texts = [t.format(p) for p in vocabulary["phrases"] for t in TEMPLATES]
    vectors = text_backbone.encode(texts, backbone, tokenizer).reshape(len(phrases), len(TEMPLATES), -1)
    np.save(os.path.join(folder, "phrases.npy"), vectors.astype(np.float16))
    print({k: len(v) for k, v in vocabulary.items()})


if __name__ == "__main__":
    main()
