"""Cuts a causal text tower of a fixed length to fewer tokens: what it costs on texts of real length.

CLIP's text towers are exported for 77 tokens although a label's prompt has about ten. A tower that
looks only backwards, and takes its embedding at the end token, gives the same embedding without the
padding behind it; `shorten` makes that graph and refuses to if onnxruntime sees a difference.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper


def cut(array: np.ndarray, full: int, tokens: int) -> np.ndarray:
    """Takes the first `tokens` of every axis that is as long as the whole context."""
    if array.dtype == np.int64 and array.ndim <= 1:  # a shape, or a position
        return np.where(array == full, tokens, array)
    for axis, length in enumerate(array.shape):
        if length == full:
            array = np.take(array, range(tokens), axis)
    return np.ascontiguousarray(array)


def shorten(source: Path, target: Path, tokens: int) -> None:
    model = onnx.load(str(source))
    graph = model.graph
    full = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    if not 2 < tokens <= full:
        raise SystemExit(f"{source}: its {full} tokens cannot be cut to {tokens}")
    for tensor in graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(cut(numpy_helper.to_array(tensor), full, tokens), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "value":
                array = numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(numpy_helper.from_array(cut(array, full, tokens), attribute.t.name))
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = tokens
    del graph.value_info[:]
    onnx.save(model, str(target))
    refuse_unless_equal(source, target, full, tokens)


def text(tokens: int, length: int) -> np.ndarray:
    """Start token, arbitrary words, end token, padding: the end token has the highest number."""
    ids = np.zeros((1, length), np.int64)
    ids[0, 0] = 49406
    ids[0, 1:tokens - 1] = np.random.default_rng(3).integers(1, 49000, tokens - 2)
    ids[0, tokens - 1] = 49407
    return ids


def refuse_unless_equal(source: Path, target: Path, full: int, tokens: int) -> None:
    outputs = []
    for path, length in ((source, full), (target, tokens)):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {session.get_inputs()[0].name: text(tokens, length)})[0].ravel())
    a, b = outputs
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    if cosine < 0.99999:
        raise SystemExit(f"{target}: cosine {cosine:.6f} to the tower of {full} tokens, so the cut is wrong")
