"""Joins backbones and heads and writes the two towers in fp32: image.fp32.onnx and text.fp32.onnx.

Image: `pixels` f32 [1, 3, 260, 260] to `embedding` [1, 384] and `spatial` [1, 384, 9, 9]: the same head at every
place of the last feature map, in a branch of its own that shares the head's weights, so that a runtime asked only
for `embedding` drops it; and to `strength` [1, 1, 9, 9], the root of the length of that map's vector at each place. Text: `input_ids`, `attention_mask` int64 [1, S] to `embedding` [1, 384]. Not normalised.
"""

import argparse
import os

import onnx
import torch
from torch import nn

import image_backbone
import text_backbone
from heads import WIDTH, Heads


def load_heads(path):
    stored = torch.load(path)
    heads = Heads(stored["hidden"])
    heads.load_state_dict(stored["heads"])
    return heads.eval()


class ImageTower(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.backbone = image_backbone.load_backbone()
        width = heads.hidden.out_features
        self.hidden, self.output = nn.Conv2d(image_backbone.CHANNELS, width, 1), nn.Conv2d(width, WIDTH, 1)
        with torch.no_grad():  # the standardisation of the features goes into the first map
            weight = heads.hidden.weight / heads.deviation
            self.hidden.weight.copy_(weight[:, :, None, None])
            self.hidden.bias.copy_(heads.hidden.bias - weight @ heads.mean)
            self.output.weight.copy_(heads.image_out.weight[:, :, None, None])
            self.output.bias.copy_(heads.image_out.bias)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def head(self, features):
        return self.output(torch.relu(self.hidden(features)))

    def forward(self, pixels):
        features = self.backbone.extract_features(pixels)
        strength = torch.linalg.vector_norm(features, dim=1, keepdim=True).sqrt()
        return self.head(self.pool(features)).flatten(1), self.head(features), strength


class TextTower(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.backbone = text_backbone.load_backbone()
        self.backbone.positions = nn.Parameter(self.backbone.positions[:text_backbone.CONTEXT_LENGTH].clone())
        self.head = heads.text_out

    def forward(self, ids, mask):
        return self.head(self.backbone(ids, mask))


def export(heads, folder):
    image, text = os.path.join(folder, "image.fp32.onnx"), os.path.join(folder, "text.fp32.onnx")
    side = image_backbone.SIDE
    torch.onnx.export(
        ImageTower(heads).eval(), torch.zeros(1, 3, side, side), image, input_names=["pixels"],
        output_names=["embedding", "spatial", "strength"], dynamo=False, opset_version=17)
    onnx.save(image_backbone.fold_paddings(onnx.load(image)), image)
    ids = torch.tensor([[101, 1037, 3899, 102]])
    torch.onnx.export(
        TextTower(heads).eval(), (ids, torch.ones_like(ids)), text, input_names=["input_ids", "attention_mask"],
        output_names=["embedding"], dynamic_axes={"input_ids": {1: "S"}, "attention_mask": {1: "S"}},
        dynamo=False, opset_version=17)
    return image, text


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder")
    arguments.add_argument("--heads", default="heads.pt")
    arguments = arguments.parse_args()
    print(*export(load_heads(os.path.join(arguments.folder, arguments.heads)), arguments.folder))


if __name__ == "__main__":
    main()
