"""Writes the miniatures under tests/golden/models: small towers of every architecture, with references.

    python miniature.py ../../tests/golden/models

NAME/ holds image.onnx, text.onnx, tokenizer.json, photo0.png … (at the tower's size) and case.json:
what must be known to feed the towers, the texts with their token ids, and the embeddings onnxruntime
gives. tokenizers/KIND/ holds each kind's tokenizer.json and ids.json: texts with the token ids of the
reference, made by other code than the tokenizer file (see tokenizer_files.py).
"""
from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

import architectures
import export
import texts
import tokenizer_files

PHOTOS_KEPT = 4
GENERATOR = "models/reference/miniature.py"


def rounded(rows: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.7g}") for value in row] for row in rows]


def one_row_a_line(value, depth: int = 0) -> str:
    """JSON with innermost lists on one line: readable, and small in a diff."""
    if isinstance(value, dict) and depth < 2:
        pad = " " * (depth + 1)
        inner = ",\n".join(f"{pad}{json.dumps(k)}: {one_row_a_line(v, depth + 1)}" for k, v in value.items())
        return "{\n" + inner + "\n" + " " * depth + "}"
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return "[\n" + ",\n".join(" " * (depth + 1) + json.dumps(v, ensure_ascii=False) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def write_miniature(name: str, out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) / name
        case = export.export_one(name, work, mini=True, photo_folder=None)
        ids = np.load(work / "text_ids.npy")
        case = {"generator": GENERATOR, **case}
        case["photos"] = [f"photo{i}.png" for i in range(PHOTOS_KEPT)]
        pad_id, padded = case["text"]["pad_id"], case["text"]["padding"] == "max"
        case["ids"] = [[token for token in row if padded or token != pad_id] for row in ids.tolist()]
        case["image_embeddings"] = rounded(np.load(work / "image.ref.npy")[:PHOTOS_KEPT])
        case["text_embeddings"] = rounded(np.load(work / "text.ref.npy"))
        out.mkdir(parents=True, exist_ok=True)
        for file in ["image.onnx", "text.onnx", "tokenizer.json", *case["photos"]]:
            shutil.copyfile(work / file, out / file)
        (out / "case.json").write_text(one_row_a_line(case) + "\n", encoding="utf-8")


def write_tokenizer(kind: str, context_length: int, out: Path) -> None:
    content, vocabulary, reference = tokenizer_files.build(kind, mini=True)
    repeated = [(text, 1) for text in texts.COMMON] + texts.REPEATED
    written = [text * times for text, times in repeated]
    expected = reference(written, context_length)
    got = tokenizer_files.encode(content, written, context_length, reference.pad_id)
    for text, theirs, ours in zip(written, expected, got):
        if theirs != ours:
            raise SystemExit(f"{kind}: {text[:60]!r} has ids {ours}, the reference says {theirs}")
    long = tokenizer_files.encode(content, written, 100_000, reference.pad_id)
    different = []
    for text, reason in texts.DIFFERENT[kind].items():
        theirs = reference([text], context_length)[0]
        ours = tokenizer_files.encode(content, [text], context_length, reference.pad_id)[0]
        if theirs == ours:
            raise SystemExit(f"{kind}: {text!r} is listed as different and is not")
        different.append({"text": text, "reason": reason, "ids": ours})
    end = {"clip": vocabulary - 1, "siglip": 1, "bert": got[0][got[0].index(reference.pad_id) - 1]}[kind]
    cases = [
        {"text": text, "times": times, "truncated": row.index(end) + 1 > context_length, "ids": theirs}
        for (text, times), theirs, row in zip(repeated, expected, long)
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(content, encoding="utf-8")
    table = {"generator": GENERATOR, "context_length": context_length, "pad_id": reference.pad_id, "end_id": end,
             "cases": cases, "different": different}
    (out / "ids.json").write_text(one_row_a_line(table) + "\n", encoding="utf-8")
    print(f"tokenizers/{kind}: {vocabulary} tokens, {len(cases)} texts agree, {len(different)} known differences")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)
    if not arguments.names:
        for kind, context_length in (("clip", 77), ("siglip", 64), ("bert", 32)):
            write_tokenizer(kind, context_length, arguments.out / "tokenizers" / kind)
    for name in arguments.names or architectures.BUILDERS:
        write_miniature(name, arguments.out / name)


if __name__ == "__main__":
    main()
