#!/usr/bin/env python3
"""Turns an int8 package back into one in single precision, for engines that quantise by themselves.

    python benches/peers/restore.py models/sextant-lite OUT

Constants behind `DequantizeLinear` become the numbers that they stand for, rounding and all: right for
comparing speed, not for measuring what quantisation costs.
"""
from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def restore(source: Path, target: Path) -> None:
    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            kept.append(node)
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        codes, scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input if name)
        shape = [-1 if dimension == axis else 1 for dimension in range(codes.ndim)] if scale.ndim else []
        offset = zero[0].astype(np.float32).reshape(shape) if zero else np.float32(0)
        numbers = ((codes.astype(np.float32) - offset) * scale.reshape(shape)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(numbers, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    onnx.save(model, target)


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True)
    manifest = (source / "model.toml").read_text()
    for name in re.findall(r'^(?:file|tokenizer) = "(.+)"', manifest, re.M):
        if not name.endswith(".onnx"):
            shutil.copyfile(source / name, target / name)
            continue
        before = hashlib.sha256((source / name).read_bytes()).hexdigest()
        restore(source / name, target / name)
        manifest = manifest.replace(before, hashlib.sha256((target / name).read_bytes()).hexdigest())
    (target / "model.toml").write_text(manifest)


if __name__ == "__main__":
    main()
