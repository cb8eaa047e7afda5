"""Accuracy of retrieval and zero-shot classification from embeddings (numpy or torch, rows normalised)."""

import torch
from torch.nn import functional


def recall(images, captions, of_caption, at=(1, 5, 10)):
    """Image retrieval by caption and caption retrieval by image: shares found among the first k."""
    scores = captions @ images.T
    rank = (scores > scores.gather(1, of_caption[:, None])).sum(1)
    result = {f"image@{k}": (rank < k).float().mean().item() for k in at}
    own = torch.arange(len(images))[:, None] == of_caption[None]
    best = scores.T.masked_fill(~own, -2).max(1).values
    rank = ((scores.T > best[:, None]) & ~own).sum(1)
    result.update({f"text@{k}": (rank < k).float().mean().item() for k in at})
    return result


def top(images, labels, truth, k=1):
    return (images @ labels.T).topk(k, 1).indices.eq(truth[:, None]).any(1).float().mean().item()


def ensemble(vectors):
    """[labels, templates, d] normalised template embeddings to [labels, d]: their mean, renormalised."""
    return functional.normalize(functional.normalize(vectors, dim=-1).mean(1), dim=-1)
