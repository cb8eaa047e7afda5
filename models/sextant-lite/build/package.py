"""Writes package folders: first in single precision for `sextant model quantize`, then the calibrated model.toml."""

import argparse
import hashlib
import json
import os
import shutil

import pictures
import text_backbone
from evaluate import DEFAULT_TEMPLATES


def write_single(source, target):
    """A package in single precision, which the quantiser starts from; its scores are not calibrated yet."""
    os.makedirs(target, exist_ok=True)
    for tower in ("image", "text"):
        shutil.copyfile(os.path.join(source, f"{tower}.fp32.onnx"), os.path.join(target, f"{tower}.onnx"))
    tokenizer = text_backbone.load_tokenizer().to_str()
    replace(os.path.join(target, "tokenizer.json"), tokenizer.encode())
    write_manifest(target, "0.0.0", {"logit_scale": 25.0, "table": {}})


def replace(path, content):
    with open(path + ".part", "wb") as file:
        file.write(content)
    os.replace(path + ".part", path)


def checksum(*path):
    with open(os.path.join(*path), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def toml(value):
    if isinstance(value, float):
        return format(value, ".6g") if value % 1 else f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def write_manifest(folder, version, calibration):
    sections = {
        "": {
            "format": 1, "name": "sextant-lite", "version": version, "licence": "Apache-2.0",
            "source": "EfficientNet-Lite2 and all-MiniLM-L6-v2, joined by heads trained with models/sextant-lite/build",
            "dimension": 384, "logit_scale": calibration["logit_scale"], "logit_bias": 0.0, "scoring": "softmax",
            "templates": DEFAULT_TEMPLATES,
        },
        "image": {
            "file": "image.onnx", "sha256": checksum(folder, "image.onnx"), "input": "pixels",
            "output": "embedding", "spatial": "spatial", "strength": "strength",
        },
        "image.preprocess": {
            "resize": "shortest", "resize_size": pictures.RESIZE, "crop": [pictures.SIDE] * 2,
            "interpolation": "bicubic", "mean": [pictures.MEAN] * 3, "std": [pictures.DEVIATION] * 3,
            "fill": [127] * 3, "background": [255] * 3,
        },
        "text": {
            "file": "text.onnx", "sha256": checksum(folder, "text.onnx"), "input": "input_ids",
            "attention_mask": "attention_mask", "output": "embedding", "tokenizer": "tokenizer.json",
            "tokenizer_sha256": checksum(folder, "tokenizer.json"),
            "context_length": text_backbone.CONTEXT_LENGTH, "padding": "none", "lowercase": False,
        },
        "calibration": calibration["table"],
    }
    text = []
    for name, entries in sections.items():
        text += ["", f"[{name}]"] if name else []
        text += [f"{key} = {toml(value)}" for key, value in entries.items()]
    replace(os.path.join(folder, "model.toml"), ("\n".join(text) + "\n").encode())


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("step", choices=("single", "manifest"))
    arguments.add_argument("folder")
    arguments.add_argument("package")
    arguments.add_argument("--version", default="1.0.0")
    arguments = arguments.parse_args()
    if arguments.step == "single":
        write_single(arguments.folder, arguments.package)
        return
    with open(os.path.join(arguments.folder, "calibration.json"), encoding="utf-8") as file:
        write_manifest(arguments.package, arguments.version, json.load(file))


if __name__ == "__main__":
    main()
