"""Fits the few numbers that turn similarities into probabilities. Writes FOLDER/calibration.json.

A label set is answered by softmax over its labels and one more outcome, "none of these":
    z_k = logit_scale / temperature * (image - image_mean) . (label_k - text_mean),   z_none = null_logit
and P(k) = exp(z_k) / (sum_j exp(z_j) + exp(z_none)). The means are those of each modality over everyday pictures and
nouns: without them a picture that likes every label, or a label that every picture likes, would count as known.
Pairs are answered alone: P(match) = sigmoid(scale * similarity + bias), with one pair of numbers a kind.
"""

import argparse
import json
import os

import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

import calibration_material
from export_towers import load_heads
from material import Material

SIZES = (1, 2, 3, 5, 10, 25)
MATCH_PRIOR = 0.1  # of the labels that somebody asks about, the share taken to be in the picture


def trials(task, size, dice):
    """Random label sets for each picture, with its right label in about half: (rows [n, size], truth or -1)."""
    rows, truth = [], []
    for right in task.truth.tolist():
        wrong = (~task.kin[right]).nonzero()[:, 0]
        if len(wrong) < size:
            continue
        chosen = wrong[torch.randperm(len(wrong), generator=dice)[:size]]
        known = torch.rand(1, generator=dice).item() < 0.5
        if known:
            chosen[0] = right
        rows.append(chosen)
        truth.append(0 if known else -1)
    return (torch.stack(rows), torch.tensor(truth)) if rows and len(rows) == len(task.truth) else None


def all_trials(tasks, dice):
    result = []
    for task in tasks.values():
        for size in SIZES:
            made = trials(task, size, dice)
            if made:
                result.append((task, *made))
    return result


class OpenSet:
    """Log-probabilities of the labels, then of "none of these"."""

    def __init__(self, image_mean, text_mean):
        self.image_mean, self.text_mean = image_mean, text_mean
        self.scale = torch.tensor(3.0, requires_grad=True)
        self.null = torch.tensor(2.0, requires_grad=True)

    def log_probabilities(self, images, labels, rows=None):
        scores = (images - self.image_mean) @ (labels - self.text_mean).T * self.scale.exp()
        scores = scores if rows is None else scores.gather(1, rows)
        return functional.log_softmax(torch.cat([scores, self.null.expand(len(scores), 1)], 1), 1)

    def loss(self, made):
        losses = []
        for task, rows, truth in made:
            target = torch.where(truth < 0, rows.shape[1], truth)
            found = self.log_probabilities(task.images, task.labels, rows)
            losses.append(functional.nll_loss(found, target, reduction="sum") / len(made) / len(target))
        return sum(losses)

    def fit(self, made):
        optimiser = torch.optim.LBFGS([self.scale, self.null], max_iter=60, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            loss = self.loss(made)
            loss.backward()
            return loss

        optimiser.step(closure)
        return self


def calibration_error(probabilities, right, bins=15):
    """Expected calibration error of the chosen answers: mean gap of confidence and accuracy over equal bins."""
    place = (probabilities * bins).long().clamp(max=bins - 1)
    total = 0.0
    for k in range(bins):
        some = place == k
        if some.any():
            total += some.float().mean() * (probabilities[some].mean() - right[some].float().mean()).abs()
    return total.item()


def report(made, predict):
    """Error of calibration, share of right answers, and area under the curve for known against unknown."""
    confidence, right, known, unknown = [], [], [], []
    for task, rows, truth in made:
        found = predict(task, rows).exp()
        best, answer = found.max(1)
        confidence.append(best)
        right.append(answer == torch.where(truth < 0, rows.shape[1], truth))
        labelled = found[:, :rows.shape[1]].sum(1)
        known.append(labelled[truth >= 0])
        unknown.append(labelled[truth < 0])
    known, unknown = torch.cat(known), torch.cat(unknown).sort().values
    area = (torch.searchsorted(unknown, known).float() / len(unknown)).mean().item()
    right = torch.cat(right)
    return {"ece": calibration_error(torch.cat(confidence), right), "right": right.float().mean().item(), "auroc": area}


def logistic(positive, negative, prior):
    """Scale and bias of the probability of a match, the two kinds weighted by the prior."""
    x = torch.cat([positive, negative])[:, None].numpy()
    y = [1] * len(positive) + [0] * len(negative)
    weight = [prior / len(positive)] * len(positive) + [(1 - prior) / len(negative)] * len(negative)
    weight = [w * len(y) for w in weight]
    fitted = LogisticRegression(C=1e4, max_iter=1000).fit(x, y, sample_weight=weight)
    return [float(fitted.coef_[0, 0]), float(fitted.intercept_[0])]


def match_pairs(stored, material, image_mean, text_mean):
    """Logistic fits on centred similarities of pairs that belong together and pairs that do not."""
    images, captions = stored["images"] - image_mean, stored["captions"] - text_mean
    different = ~torch.eye(len(images), dtype=torch.bool)
    across = torch.einsum("id,jkd->ijk", images, captions)
    positive = [across.diagonal(dim1=0, dim2=1).flatten()]
    negative = [across[different].flatten()[::40]]
    nouns = images @ (stored["nouns"] - text_mean).T
    positive.append(nouns[stored["shares"] >= 0.6])
    negative.append(nouns[stored["shares"] == 0][::40])
    for task in stored["tasks"].values():
        scores = (task.images - image_mean) @ (task.labels - text_mean).T
        right = torch.zeros_like(scores, dtype=torch.bool)
        right[torch.arange(len(scores)), task.truth] = True
        positive.append(scores[right])
        negative.append(scores[~task.kin[task.truth]][::40])
    result = {"match_image_text": logistic(torch.cat(positive), torch.cat(negative), MATCH_PRIOR)}
    names = stored["tasks"]["names"]
    scores = (names.images - image_mean) @ (names.images - image_mean).T
    same = names.truth[:, None] == names.truth[None]
    upper = torch.ones_like(same).triu(1)
    unlike = upper & ~names.kin[names.truth][:, names.truth]
    result["match_image_image"] = logistic(scores[same & upper], scores[unlike][::40], MATCH_PRIOR)
    scores = torch.einsum("iad,jbd->ijab", captions, captions)
    off = torch.ones(5, 5, dtype=torch.bool).triu(1)
    positive = scores.diagonal(dim1=0, dim2=1).permute(2, 0, 1)[:, off].flatten()
    negative = scores[different][::40].flatten()
    result["match_text_text"] = logistic(positive, negative, MATCH_PRIOR)
    return result


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data")
    arguments.add_argument("folder")
    arguments.add_argument("package")
    arguments.add_argument("--keep", action="store_true", help="reuse the stored embeddings")
    arguments = arguments.parse_args()
    material = Material(arguments.data, arguments.folder)
    cache = os.path.join(arguments.folder, "calibration.pt")
    if arguments.keep and os.path.exists(cache):
        stored = torch.load(cache, weights_only=False)
    else:
        with torch.no_grad():
            stored = calibration_material.gather(arguments.data, arguments.package, material)
        torch.save(stored, cache)
    image_mean, text_mean = stored["everywhere"].mean(0), stored["common"].mean(0)
    trained = float(load_heads(os.path.join(arguments.folder, "heads.pt")).name_scale.exp())
    fitting = all_trials(stored["tasks"], torch.Generator().manual_seed(1))
    checking = all_trials(stored["tasks"], torch.Generator().manual_seed(2))
    fitted = OpenSet(image_mean, text_mean).fit(fitting)

    def before(task, rows):
        scores = trained * (task.images @ task.labels.T).gather(1, rows)
        return functional.log_softmax(torch.cat([scores, torch.full((len(scores), 1), -1e9)], 1), 1)

    after = lambda task, rows: fitted.log_probabilities(task.images, task.labels, rows)
    with torch.no_grad():
        print("before", json.dumps(report(checking, before)))
        print("after", json.dumps(report(checking, after)))
        for size in SIZES:
            some = [t for t in checking if t[1].shape[1] == size]
            print(size, "labels", json.dumps(report(some, after)))
        table = {"temperature": trained / float(fitted.scale.exp()), "null_logit": float(fitted.null)}
        table.update(match_pairs(stored, material, image_mean, text_mean))
    table.update(image_mean=image_mean.tolist(), text_mean=text_mean.tolist())
    with open(os.path.join(arguments.folder, "calibration.json"), "w", encoding="utf-8") as file:
        json.dump({"logit_scale": trained, "table": table}, file)
    print(json.dumps({k: v for k, v in table.items() if not k.endswith("_mean")}))


if __name__ == "__main__":
    main()
