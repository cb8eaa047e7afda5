"""Ranges of the image tower's activations that ReLU6 does not bound, over the calibration and some training pictures.

Writes FOLDER/image.ranges.json {tensor: [lowest, highest]} and image.ranges.p9999.json with the 0.01 and 99.99
percentiles (the outermost over pictures of each picture's percentiles would be too wide: they are pooled).
"""

import argparse
import json
import os

import numpy as np
import onnx
import onnxruntime

import pictures

PICTURES_PER_SET = 24
SAMPLE = 20000


def unbounded(model):
    """Outputs of Conv, Add, Relu and the poolings, except a Conv's that goes straight into a Clip."""
    readers = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    kinds = ("Conv", "Add", "Relu", "GlobalAveragePool")
    return [n.output[0] for n in model.graph.node if n.op_type in kinds and readers.get(n.output[0]) != ["Clip"]]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data")
    arguments.add_argument("folder")
    arguments = arguments.parse_args()
    model = onnx.load(os.path.join(arguments.folder, "image.fp32.onnx"))
    names = unbounded(model)
    known = {o.name for o in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names if n not in known)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    dice = np.random.default_rng(0)
    limits, samples = {n: [np.inf, -np.inf] for n in names}, {n: [] for n in names}
    for name, (_, _, squashed) in pictures.SETS.items():
        files = pictures.files_of(arguments.data, name)
        for file in files[::max(1, len(files) // PICTURES_PER_SET)]:
            pixels = pictures.load_view(file, 0, squashed)[None]
            for tensor, value in zip(names, session.run(names, {"pixels": pixels})):
                limits[tensor][0] = min(limits[tensor][0], float(value.min()))
                limits[tensor][1] = max(limits[tensor][1], float(value.max()))
                flat = value.reshape(-1)
                samples[tensor].append(flat if flat.size <= SAMPLE else dice.choice(flat, SAMPLE))
    percentiles = {n: np.percentile(np.concatenate(s), [0.01, 99.99]).tolist() for n, s in samples.items()}
    for suffix, values in (("", limits), (".p9999", percentiles)):
        with open(os.path.join(arguments.folder, f"image.ranges{suffix}.json"), "w") as file:
            json.dump(values, file, indent=1)


if __name__ == "__main__":
    main()
