"""The two trained heads."""

import torch
from torch import nn
from torch.nn import functional

WIDTH = 384


class Heads(nn.Module):
    """Image: a perceptron with one hidden layer on the pooled features. Text: one affine map."""

    def __init__(self, hidden=1024, dropout=0.3, channels=1280):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.hidden = nn.Linear(channels, hidden)
        self.dropout = nn.Dropout(dropout)
        self.image_out = nn.Linear(hidden, WIDTH)
        self.text_out = nn.Linear(WIDTH, WIDTH)
        nn.init.eye_(self.text_out.weight)
        nn.init.zeros_(self.text_out.bias)
        self.caption_scale = nn.Parameter(torch.tensor(3.0))
        self.name_scale = nn.Parameter(torch.tensor(3.5))

    def image_raw(self, features):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            hidden = functional.relu(self.hidden((features - self.mean) / self.deviation))
            return self.image_out(self.dropout(hidden)).float()

    def image(self, features):
        return functional.normalize(self.image_raw(features), dim=-1)

    def text(self, vectors):
        return functional.normalize(self.text_out(vectors), dim=-1)
