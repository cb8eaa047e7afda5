"""Stores a tower's weights as int8: symmetric, one scale per output channel (per row of the embedding table).

Every weight of a Conv, Gemm, MatMul or Gather becomes an int8 initialiser behind a DequantizeLinear node with an
`axis`; biases, normalisation weights and everything small stay f32. Activations are untouched.
"""

import argparse

import numpy as np
import onnx
from onnx import helper, numpy_helper

SMALLEST = 1024  # weights of fewer elements stay f32


def channel_axis(node, position, weight):
    """The axis of output channels where this input of the node is a weight, else None."""
    if node.op_type == "Conv" and position == 1:
        return 0
    if node.op_type == "MatMul" and position == 1 and weight.ndim == 2:
        return 1
    if node.op_type == "Gemm" and position == 1:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return 0 if transposed else 1
    if node.op_type == "Gather" and position == 0 and weight.ndim == 2:
        return 0
    return None


def quantise_weight(weight, axis):
    others = tuple(a for a in range(weight.ndim) if a != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale.reshape(-1)


def quantise(model):
    graph = model.graph
    weights = {i.name: i for i in graph.initializer}
    added, done = [], set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            stored = weights.get(name)
            weight = None if stored is None or stored.data_type != 1 else numpy_helper.to_array(stored)
            axis = None if weight is None or weight.size < SMALLEST else channel_axis(node, position, weight)
            if axis is None:
                continue
            if name not in done:
                done.add(name)
                levels, scale = quantise_weight(weight, axis)
                graph.initializer.remove(stored)
                parts = {"int8": levels, "scale": scale, "zero": np.zeros(len(scale), np.int8)}
                for part, values in parts.items():
                    graph.initializer.append(numpy_helper.from_array(values, f"{name}.{part}"))
                added.append(helper.make_node(
                    "DequantizeLinear", [f"{name}.{p}" for p in parts], [f"{name}.f32"],
                    name=f"{name}.dequantise", axis=axis))
            node.input[position] = f"{name}.f32"
    nodes = added + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("source")
    arguments.add_argument("target")
    arguments = arguments.parse_args()
    onnx.save(quantise(onnx.load(arguments.source)), arguments.target)


if __name__ == "__main__":
    main()
