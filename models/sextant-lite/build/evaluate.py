"""Measures a package on the measuring sets, which were never used for training or for choosing between settings."""

import argparse
import csv
import json
import os
import tomllib

import torch

import measure
from towers import Towers
from vocabulary import TEMPLATES

DEFAULT_TEMPLATES = TEMPLATES[:4]


def table(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def lines(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def retrieval(towers, folder, rows):
    files = sorted({row[0] for row in rows})
    images = towers.images([os.path.join(folder, f) for f in files])
    owner = torch.tensor([files.index(row[0]) for row in rows])
    return images, measure.recall(images, towers.texts([row[2].strip() for row in rows]), owner)


def means(package):
    """What the scores of a label set are made without; zero before the package has a manifest."""
    path = os.path.join(package, "model.toml")
    if not os.path.exists(path):
        return 0.0, 0.0
    with open(path, "rb") as file:
        calibration = tomllib.load(file)["calibration"]
    share = calibration.get("label_centring", 1.0)
    return share * torch.tensor(calibration["image_mean"]), torch.tensor(calibration["text_mean"])


def evaluate(towers, data, image_mean, text_mean):
    result, vectors = {}, []
    folder = os.path.join(data, "dev-eval", "imagenet-500")
    names = lines(data, "names", "imagenet1k.txt")
    rows = table(folder, "labels.tsv")
    images = towers.images([os.path.join(folder, "images", r[0]) for r in rows])
    vectors.append(images)
    labels, truth = towers.labels(names, DEFAULT_TEMPLATES) - text_mean, torch.tensor([int(r[1]) for r in rows])
    images = images - image_mean
    result["imagenet-500 top-1"] = measure.top(images, labels, truth)
    result["imagenet-500 top-5"] = measure.top(images, labels, truth, 5)
    by_file = {r[0]: i for i, r in enumerate(rows)}
    generic = table(folder, "generic.tsv")
    words = towers.labels(lines(folder, "generic-labels.txt"), DEFAULT_TEMPLATES) - text_mean
    some = images[[by_file[r[0]] for r in generic]]
    result["generic top-1"] = measure.top(some, words, torch.tensor([int(r[1]) for r in generic]))
    folder = os.path.join(data, "dev-eval", "flickr8k-500")
    images, recall = retrieval(towers, os.path.join(folder, "images"), table(folder, "captions.tsv"))
    vectors.append(images)
    result.update({f"flickr8k-500 {k}": v for k, v in recall.items()})
    folder = os.path.join(data, "coco-50")
    with open(os.path.join(folder, "captions_val2017.json"), encoding="utf-8") as file:
        stored = json.load(file)
    here = set(os.listdir(os.path.join(folder, "images")))
    name_of = {i["id"]: i["file_name"] for i in stored["images"] if i["file_name"] in here}
    rows = [(name_of[a["image_id"]], 0, a["caption"]) for a in stored["annotations"] if a["image_id"] in name_of]
    images, recall = retrieval(towers, os.path.join(folder, "images"), rows)
    vectors.append(images)
    result.update({f"coco-50 {k}": v for k, v in recall.items()})
    return torch.cat(vectors), {k: round(100 * v, 1) for k, v in result.items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data")
    arguments.add_argument("package")
    arguments.add_argument("--reference", help="folder of the fp32 towers, to be compared")
    arguments = arguments.parse_args()
    quantised, result = evaluate(Towers(arguments.package), arguments.data, *means(arguments.package))
    print("int8", json.dumps(result), flush=True)
    if arguments.reference:
        plain, result = evaluate(Towers(arguments.reference, ".fp32"), arguments.data, *means(arguments.package))
        print("fp32", json.dumps(result))
        cosine = (quantised * plain).sum(1)
        print(f"image int8 against fp32: mean cosine {cosine.mean():.4f}, least {cosine.min():.4f}")


if __name__ == "__main__":
    main()
