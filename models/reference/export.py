"""Exports dual encoders to ONNX with random weights, and onnxruntime's answers to real inputs.

    python export.py OUT [NAME…] [--mini] [--photos DIR]

writes OUT/NAME/{image,text}.onnx, tokenizer.json, case.json (everything a comparison needs to know)
and image.npy, image.ref.npy, text_ids.npy, text.ref.npy, photo*.png (pictures already at the tower's
size, so that preprocessing only normalises them). A tower whose onnxruntime output strays from
PyTorch's is refused.
"""
from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

import architectures
import pictures
import texts
import tokenizer_files

OPSET = 17


def export(module: torch.nn.Module, inputs: dict[str, torch.Tensor], output: str, path: Path, dynamic: bool) -> None:
    axes = {name: {0: "batch_size", 1: "sequence_length"} if value.dim() == 2 else {0: "batch_size"}
            for name, value in inputs.items()}
    torch.onnx.export(
        module, tuple(inputs.values()), str(path), input_names=list(inputs), output_names=[output],
        opset_version=OPSET, do_constant_folding=True, dynamo=False,
        dynamic_axes={**axes, output: {0: "batch_size"}} if dynamic else None,
    )
    onnx.checker.check_model(str(path))


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(path: Path, batches: list[dict[str, np.ndarray]]) -> np.ndarray:
    tower = session(path)
    return np.concatenate([tower.run(None, feed)[0] for feed in batches]).astype(np.float32)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def text_feeds(ids: np.ndarray, text: architectures.Text) -> list[dict[str, np.ndarray]]:
    feeds = []
    for row in ids:
        if text.dynamic:
            row = row[row != text.pad_id]
        feed = {"input_ids": row[None]}
        if text.attention_mask:
            feed["attention_mask"] = (row[None] != text.pad_id).astype(np.int64)
            feed["token_type_ids"] = np.zeros_like(row[None])
        feeds.append(feed)
    return feeds


def refuse_unless_equal(name: str, reference: np.ndarray, torch_out: np.ndarray) -> None:
    worst = float(cosines(reference, torch_out).min())
    others = reference.astype(np.float64) @ reference.T.astype(np.float64)
    np.fill_diagonal(others, -1)
    print(f"{name}: onnxruntime against PyTorch, worst cosine {worst:.7f}; nearest two inputs {others.max():.3f}")
    if worst < 0.99999:
        raise SystemExit(f"{name}: the exported graph does not compute what the module computes")


def export_one(name: str, out: Path, mini: bool, photo_folder: Path | None) -> dict:
    """Writes one architecture's files and returns its case, without the embeddings' arrays on disk."""
    out.mkdir(parents=True, exist_ok=True)
    kind = architectures.TOKENIZER[name]
    content, vocabulary, reference_ids = tokenizer_files.build(kind, mini)
    (out / "tokenizer.json").write_text(content, encoding="utf-8")
    built = architectures.build(name, mini, vocabulary if mini else None)
    model, text, size = built.model, built.text, built.preprocessing.size

    prepared = [pictures.prepare(p, built.preprocessing) for p in pictures.photos(photo_folder)]
    image_inputs = np.stack([tensor for _, tensor in prepared]).astype(np.float32)
    ids = np.array(reference_ids(texts.CAPTIONS, text.context_length), dtype=np.int64)
    feeds = text_feeds(ids, text)
    text_tower = architectures.text_tower(built)
    image_tower = architectures.image_tower(built)

    export(image_tower, {"pixel_values": torch.from_numpy(image_inputs[:1])}, "image_embeds",
           out / "image.onnx", text.dynamic)
    export(text_tower, {k: torch.from_numpy(v) for k, v in feeds[0].items()}, "text_embeds",
           out / "text.onnx", text.dynamic)
    image_out = run(out / "image.onnx", [{"pixel_values": x[None]} for x in image_inputs])
    text_out = run(out / "text.onnx", feeds)
    with torch.no_grad():
        torch_image = model.encode_image(torch.from_numpy(image_inputs), normalize=True).numpy()
        torch_text = model.encode_text(torch.from_numpy(ids), normalize=True).numpy()
    refuse_unless_equal(f"{name} image", image_out, torch_image)
    refuse_unless_equal(f"{name} text", text_out, torch_text)
    np.save(out / "image.npy", image_inputs)
    np.save(out / "image.ref.npy", image_out)
    np.save(out / "text_ids.npy", ids)
    np.save(out / "text.ref.npy", text_out)
    for i, (picture, _) in enumerate(prepared):
        picture.save(out / f"photo{i}.png")

    case = {
        "description": built.description,
        "image": {"size": size, "preset": built.preprocessing.preset, "resize_mode": built.preprocessing.resize_mode,
                  "interpolation": built.preprocessing.interpolation, "mean": list(built.preprocessing.mean),
                  "std": list(built.preprocessing.std),
                  "resize_size": built.preprocessing.resize_size or size,
                  "input": "pixel_values", "output": "image_embeds"},
        "text": {"tokenizer": kind, "context_length": text.context_length, "pad_id": text.pad_id,
                 "padding": "none" if text.dynamic else "max",
                 "inputs": list(feeds[0]), "output": "text_embeds"},
        "dimension": int(image_out.shape[1]), "logit_scale": built.logit_scale, "logit_bias": built.logit_bias,
        "texts": texts.CAPTIONS,
    }
    (out / "case.json").write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=list(architectures.BUILDERS))
    parser.add_argument("--mini", action="store_true", help="few layers, small width")
    parser.add_argument("--photos", type=Path, help="a folder of pictures instead of scikit-image's")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # the fused operator has no ONNX form
    for name in arguments.names or list(architectures.BUILDERS):
        export_one(name, arguments.out / name, arguments.mini, arguments.photos)


if __name__ == "__main__":
    main()
