"""Imports exported dual encoders with `sextant model import` and compares it with onnxruntime.

    python export.py FULL
    python compare.py ../../target/release/sextant FULL [NAME…]

For every architecture, worst cosine between Sextant's embeddings and onnxruntime's:

pixels   pictures already at the tower's size, so that both get the same tensor
photos   whole photos through the preset, against open_clip's transform (Pillow) and onnxruntime
texts    captions and odd texts, against the reference tokenizer's ids and onnxruntime

and the greatest difference of a score: `label`'s softmax over the captions with the model's logit
scale, or `label --multi`'s sigmoid with its scale and bias where the family is trained so.

Exit status 1 if a cosine lies under 0.9999 or a score is off by more than 0.001.
"""
from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import architectures
import export
import pictures
import texts
import tokenizer_files

LEAST_COSINE = 0.9999
MOST_SCORE_ERROR = 1e-3


def sextant(binary: Path, *arguments: str) -> str:
    done = subprocess.run([str(binary), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{binary} {' '.join(arguments)[:300]}\n{done.stderr}")
    return done.stdout


def import_package(binary: Path, source: Path, case: dict, folder: Path, *extra: str) -> None:
    arguments = [
        "model", "import", "--image", source / "image.onnx", "--text", source / "text.onnx",
        "--tokenizer", source / "tokenizer.json", "--preset", case["image"]["preset"],
        "--context-length", case["text"]["context_length"], "--pad-id", case["text"]["pad_id"],
        "--logit-scale", case["logit_scale"], "--logit-bias", case["logit_bias"],
        "--size", case["image"]["size"], "-o", folder, *extra,
    ]
    sextant(binary, *map(str, arguments))


def embed(binary: Path, package: Path, pictures_in: list[Path], texts_in: list[str]) -> np.ndarray:
    arguments = ["--model", str(package), "--format", "json", "--quiet", "embed", *map(str, pictures_in)]
    arguments += [f"--text={text}" for text in texts_in]
    lines = sextant(binary, *arguments).splitlines()
    return np.array([json.loads(line)["embedding"] for line in lines])


def reference_texts(source: Path, case: dict) -> tuple[list[str], np.ndarray]:
    """Texts on which tokenizer files and their references agree, with onnxruntime's embeddings."""
    text = architectures.Text(case["text"]["tokenizer"], case["text"]["context_length"], case["text"]["pad_id"],
                              attention_mask=len(case["text"]["inputs"]) > 1,
                              dynamic=case["text"]["padding"] == "none")
    _, _, reference = tokenizer_files.build(text.tokenizer, mini=False)
    written = texts.COMMON + [t * times for t, times in texts.REPEATED]
    ids = np.array(reference(written, text.context_length), dtype=np.int64)
    return written, export.run(source / "text.onnx", export.text_feeds(ids, text))


def score_error(binary: Path, package: Path, source: Path, case: dict, at_size: list[Path], work: Path) -> float:
    """Greatest difference between `label`'s scores and those of onnxruntime's embeddings."""
    labels = work / "labels.txt"
    labels.write_text("\n".join(case["texts"]) + "\n", encoding="utf-8")
    sigmoid = case["logit_bias"] != 0.0
    arguments = ["--model", package, "--format", "json", "--quiet", "label", *at_size, "--labels", labels,
                 "--template", "{}", "--top", len(case["texts"]), *(["--multi"] if sigmoid else [])]
    lines = [json.loads(line) for line in sextant(binary, *map(str, arguments)).splitlines()]
    scores = [{label["name"]: label["score"] for label in line["labels"]} for line in lines]
    found = np.array([[of[text] for text in case["texts"]] for of in scores])
    similarity = np.load(source / "image.ref.npy").astype(np.float64) @ np.load(source / "text.ref.npy").T
    logits = case["logit_scale"] * similarity + case["logit_bias"]
    if sigmoid:
        expected = 1 / (1 + np.exp(-logits))
    else:
        weights = np.exp(logits - logits.max(1, keepdims=True))
        expected = weights / weights.sum(1, keepdims=True)
    return float(np.abs(found - expected).max())


def compare(binary: Path, source: Path, work: Path) -> tuple[dict[str, np.ndarray], float]:
    case = json.loads((source / "case.json").read_text(encoding="utf-8"))
    package, exact = work / "package", work / "exact"
    import_package(binary, source, case, package)
    size = case["image"]["size"]
    if case["image"]["resize_size"] == size:
        exact = package
    else:
        import_package(binary, source, case, exact, "--resize-size", str(size))

    at_size = sorted(source.glob("photo*.png"))
    whole = []
    for i, photo in enumerate(pictures.photos()):
        whole.append(work / f"whole{i}.png")
        photo.save(whole[-1])
    written, expected = reference_texts(source, case)
    images = np.load(source / "image.ref.npy")
    cosines = {
        "pixels": export.cosines(embed(binary, exact, at_size, []), images),
        "photos": export.cosines(embed(binary, package, whole, []), images),
        "texts": export.cosines(embed(binary, package, [], written), expected),
    }
    return cosines, score_error(binary, exact, source, case, at_size, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("exports", type=Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    failed = False
    print("| architecture | pixels | photos | texts | score error |\n|---|---|---|---|---|")
    for name in arguments.names or architectures.BUILDERS:
        with tempfile.TemporaryDirectory() as work:
            found, off = compare(arguments.binary, arguments.exports / name, Path(work))
        cells = [f"{values.min():.7f} ({len(values)})" for values in found.values()]
        print(f"| {name} | {' | '.join(cells)} | {off:.1e} |", flush=True)
        failed |= off > MOST_SCORE_ERROR or any(values.min() < LEAST_COSINE for values in found.values())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
