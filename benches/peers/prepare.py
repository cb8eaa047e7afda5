"""Makes what the engines need from an fp32 model package: inputs, and int8 graphs by their own tools.

* dynamic: onnxruntime's `quantize_dynamic` on matrix products, int8 weights per channel.
* static: onnxruntime's `quantize_static` in QDQ form on matrix products and convolutions, ranges from
  photographs (texts: arbitrary tokens). OpenVINO runs the same file.
"""
from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static)
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

import shorten

SUFFIXES = {".jpg", ".jpeg", ".png"}


def photos(folder: Path, most: int) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"{folder}: no photographs to calibrate with")
    return found[:most]


def pixels(path: Path, preprocess: dict) -> np.ndarray:
    """A photograph as the package's `model.toml` wants it: shortest side, centre crop, normalised."""
    size = preprocess["resize_size"]
    size = size if isinstance(size, int) else size[0]
    width, height = preprocess.get("crop", [size, size])
    image = Image.open(path).convert("RGB")
    scale = size / min(image.size)
    filters = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}
    image = image.resize([max(size, round(side * scale)) for side in image.size], filters[preprocess["interpolation"]])
    left, top = (image.width - width) // 2, (image.height - height) // 2
    array = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / 255
    array = (array - np.float32(preprocess["mean"])) / np.float32(preprocess["std"])
    return np.ascontiguousarray(array.transpose(2, 0, 1)[None])


def text_inputs(graph: onnx.GraphProto, tokens: int, seed: int) -> dict[str, np.ndarray]:
    """Arbitrary tokens between a start and an end token, for CLIP's vocabulary or BERT's."""
    names = [value.name for value in graph.input]
    if len(names) == 1:
        return {names[0]: shorten.text(tokens, tokens)}
    ids = np.random.default_rng(seed).integers(1000, 30000, (1, tokens))
    ids[0, 0], ids[0, -1] = 101, 102
    ones, zeros = np.ones_like(ids), np.zeros_like(ids)
    return {name: ones if "mask" in name else zeros if "type" in name else ids for name in names}


class Samples(CalibrationDataReader):
    def __init__(self, samples: list[dict[str, np.ndarray]]):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def quantise(source: Path, folder: Path, samples: list[dict[str, np.ndarray]]) -> dict[str, Path]:
    """The graph in fp32 and as both int8 forms; made once, kept in `folder`."""
    files = {kind: folder / f"{source.stem}.{kind}.onnx" for kind in ("fp32", "dynamic", "static")}
    if all(path.exists() for path in files.values()):
        return files
    prepared = folder / f"{source.stem}.prepared.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    products = ["MatMul", "Gemm"]
    quantize_dynamic(str(prepared), str(files["dynamic"]), weight_type=QuantType.QInt8, per_channel=True,
                     op_types_to_quantize=products)
    quantize_static(str(prepared), str(files["static"]), Samples(samples), quant_format=QuantFormat.QDQ,
                    per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
                    op_types_to_quantize=[*products, "Conv"])
    prepared.unlink()
    files["fp32"].unlink(missing_ok=True)
    files["fp32"].symlink_to(source.resolve())
    return files


def image_tower(package: Path, work: Path, calibration: Path, count: int) -> tuple[dict[str, Path], Path]:
    """Graphs of the image tower, and a file of inputs."""
    manifest = tomllib.loads((package / "model.toml").read_text())["image"]
    batch = [{manifest["input"]: pixels(path, manifest["preprocess"])} for path in photos(calibration, count)]
    inputs = work / "image.npz"
    np.savez(inputs, **batch[0])
    return quantise(only_output(package / manifest["file"], manifest["output"], work), work, batch), inputs


def text_tower(package: Path, work: Path, tokens: int) -> tuple[dict[str, Path], Path]:
    """Graphs of the text tower for texts of so many tokens, and a file of inputs."""
    manifest = tomllib.loads((package / "model.toml").read_text())["text"]
    source = package / manifest["file"]
    graph = onnx.load(str(source), load_external_data=False).graph
    if graph.input[0].type.tensor_type.shape.dim[1].HasField("dim_value"):
        target = work / f"text{tokens}.onnx"
        if not target.exists():
            shorten.shorten(source, target, tokens)
        source = target
    inputs = work / f"text{tokens}.npz"
    np.savez(inputs, **text_inputs(graph, tokens, 0))
    samples = [text_inputs(graph, tokens, seed) for seed in range(16)]
    return quantise(only_output(source, manifest["output"], work), work, samples), inputs


def only_output(source: Path, output: str, work: Path) -> Path:
    """The graph without outputs that are not asked for, so that no engine computes them."""
    model = onnx.load(str(source))
    if len(model.graph.output) == 1:
        return source
    target = work / f"{source.stem}.onnx"
    if not target.exists():
        names = [value.name for value in model.graph.input]
        onnx.utils.extract_model(str(source), str(target), names, [output])
    return target
