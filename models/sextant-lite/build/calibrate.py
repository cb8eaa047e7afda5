"""Fits the few numbers that turn similarities into probabilities. Writes FOLDER/calibration.json.

A label set is answered by softmax over its labels and one more outcome, "none of these":
    z_k = logit_scale / temperature * (image - share * image_mean) . (label_k - text_mean),   z_none = null_logit
The means are those of each modality over everyday pictures and common nouns: taken away, a similarity means the same
for every picture and every word, and one constant can stand for everything that was not asked about. The answer is
"unknown" where that outcome is likelier than each label. Of the mean picture only a share is taken off: the rest tells
common things from rare ones, which competing labels gain from. The share is the one of SHARES with the least loss on two
whole label sets, the 1000 class names and the everyday words. A pair is answered alone, from the similarity without the
whole mean: P(match) = sigmoid(scale * similarity + bias), one pair of numbers a kind. Label sets are fitted on every
other picture and reported on the rest. A fixed camera's pictures show one place, and common things there are no better
guess: for them a second pair of temperature and null_logit ("one_place") is fitted with the whole mean taken off.
"""

import argparse
import copy
import json
import os

import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

import calibration_material
from export_towers import load_heads
from material import Material

SIZES = (1, 2, 3, 5, 10, 25, 50, 100, 400)  # where long lists are left out, their scores get too modest
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
KNOWN = 0.9  # of the label sets that somebody asks with, the share taken to hold the right label
MATCH_PRIOR = 0.1  # of the labels that somebody asks about, the share taken to be in the picture


def trials(task, size, dice):
    """Random label sets for each picture, with its right label in KNOWN of them: (rows [n, size], truth or -1)."""
    rows, truth = [], []
    for right in task.truth.tolist():
        wrong = (~task.kin[right]).nonzero()[:, 0]
        if len(wrong) < size:
            continue
        chosen = wrong[torch.randperm(len(wrong), generator=dice)[:size]]
        known = torch.rand(1, generator=dice).item() < KNOWN
        if known:
            chosen[0] = right
        rows.append(chosen)
        truth.append(0 if known else -1)
    return (torch.stack(rows), torch.tensor(truth)) if len(rows) == len(task.truth) else None


def all_trials(tasks, dice):
    result = []
    for task in tasks.values():
        for size in SIZES:
            made = trials(task, size, dice)
            if made:
                result.append((task, *made))
    return result


class OpenSet:
    """Log-probabilities of the labels, then of "none of these", from centred embeddings."""

    def __init__(self):
        self.scale = torch.tensor(3.5, requires_grad=True)
        self.null = torch.tensor(5.0, requires_grad=True)

    def __call__(self, task, rows):
        scores = (task.images @ task.labels.T).gather(1, rows) * self.scale.exp()
        return functional.log_softmax(torch.cat([scores, self.null.expand(len(scores), 1)], 1), 1)

    def loss(self, made):
        losses = []
        for task, rows, truth in made:
            target = torch.where(truth < 0, rows.shape[1], truth)
            losses.append(functional.nll_loss(self(task, rows), target))
        return sum(losses) / len(losses)

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
    """Error of calibration, share of right answers, area under the curve for known against unknown, share of the known
    that is called unknown ("missed"), and of the unknown that is given a label ("accepted")."""
    confidence, right, known, unknown, called = [], [], [], [], []
    for task, rows, truth in made:
        found = predict(task, rows).exp()
        best, answer = found.max(1)
        confidence.append(best)
        right.append(answer == torch.where(truth < 0, rows.shape[1], truth))
        called.append(torch.stack([answer == rows.shape[1], truth < 0]))
        labelled = found[:, :rows.shape[1]].max(1).values
        known.append(labelled[truth >= 0])
        unknown.append(labelled[truth < 0])
    known, unknown = torch.cat(known), torch.cat(unknown).sort().values
    area = (torch.searchsorted(unknown, known).float() / len(unknown)).mean().item()
    right = torch.cat(right)
    called_unknown, is_unknown = torch.cat(called, 1)
    result = {"ece": calibration_error(torch.cat(confidence), right), "right": right.float().mean().item(), "auroc": area,
              "missed": called_unknown[~is_unknown].float().mean().item(),
              "accepted": (~called_unknown[is_unknown]).float().mean().item()}
    return {k: round(v, 4) for k, v in result.items()}


def whole_loss(tasks, image_mean, share):
    """Mean cross-entropy on the two label sets with many pictures, with the one scale that suits both best."""
    sets = [tasks["names"], tasks["everyday"]]
    logits = [(t.images - share * image_mean) @ t.labels.T for t in sets]
    scale = torch.tensor(3.5, requires_grad=True)
    optimiser = torch.optim.LBFGS([scale], max_iter=60, line_search_fn="strong_wolfe")
    total = lambda: sum(functional.cross_entropy(z * scale.exp(), t.truth) for z, t in zip(logits, sets)) / len(sets)

    def closure():
        optimiser.zero_grad()
        loss = total()
        loss.backward()
        return loss

    optimiser.step(closure)
    return total().item()


def choose_share(tasks, image_mean):
    losses = {share: whole_loss(tasks, image_mean, share) for share in SHARES}
    print("loss on whole label sets by share of the mean picture", {k: round(v, 4) for k, v in losses.items()})
    return min(losses, key=losses.get)


def closed(tasks, scale):
    """Calibration error and accuracy on the whole label sets of two tasks, without "none of these"."""
    result = {}
    for name in ("names", "everyday"):
        found = torch.softmax(scale * tasks[name].images @ tasks[name].labels.T, 1)
        best, answer = found.max(1)
        right = answer == tasks[name].truth
        result[name] = [round(calibration_error(best, right), 4), round(right.float().mean().item(), 4)]
    return result


def logistic(positive, negative, prior):
    """Scale and bias of the probability of a match, the two kinds weighted by the prior."""
    x = torch.cat([positive, negative])[:, None].numpy()
    y = [1] * len(positive) + [0] * len(negative)
    weight = [prior / len(positive)] * len(positive) + [(1 - prior) / len(negative)] * len(negative)
    weight = [w * len(y) for w in weight]
    fitted = LogisticRegression(C=1e4, max_iter=1000).fit(x, y, sample_weight=weight)
    return [float(fitted.coef_[0, 0]), float(fitted.intercept_[0])]


def match_pairs(stored):
    """Logistic fits on the similarities of pairs that belong together and pairs that do not."""
    images, captions = stored["images"], stored["captions"]
    different = ~torch.eye(len(images), dtype=torch.bool)
    across = torch.einsum("id,jkd->ijk", images, captions)
    positive = [across.diagonal(dim1=0, dim2=1).flatten()]
    negative = [across[different].flatten()[::40]]
    nouns = images @ stored["nouns"].T
    positive.append(nouns[stored["shares"] >= 0.6])
    negative.append(nouns[stored["shares"] == 0][::40])
    for task in stored["tasks"].values():
        scores = task.images @ task.labels.T
        right = torch.zeros_like(scores, dtype=torch.bool)
        right[torch.arange(len(scores)), task.truth] = True
        positive.append(scores[right])
        negative.append(scores[~task.kin[task.truth]][::40])
    result = {"match_image_text": logistic(torch.cat(positive), torch.cat(negative), MATCH_PRIOR)}
    names = stored["tasks"]["names"]
    scores = names.images @ names.images.T
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


def centre(stored, image_mean, text_mean):
    """Takes the means away from every embedding, in place."""
    for key, mean in (("images", image_mean), ("captions", text_mean), ("nouns", text_mean)):
        stored[key] = stored[key] - mean
    for task in stored["tasks"].values():
        task.images, task.labels = task.images - image_mean, task.labels - text_mean


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
    print("norms of the means", float(image_mean.norm()), float(text_mean.norm()))
    trained = float(load_heads(os.path.join(arguments.folder, "heads.pt")).name_scale.exp())
    raw = {n: t.every_other(1) for n, t in stored["tasks"].items()}
    share = choose_share({n: t.every_other(0) for n, t in stored["tasks"].items()}, image_mean)
    competing = copy.deepcopy(stored)
    centre(competing, share * image_mean, text_mean)
    centre(stored, image_mean, text_mean)
    whole = {n: t.every_other(0) for n, t in stored["tasks"].items()}
    one_place = OpenSet().fit(all_trials(whole, torch.Generator().manual_seed(0)))
    halves = [{n: t.every_other(k) for n, t in competing["tasks"].items()} for k in (0, 1)]
    fitting, checking = (all_trials(h, torch.Generator().manual_seed(k)) for k, h in enumerate(halves))
    fitted = OpenSet().fit(fitting)
    scale = float(fitted.scale.exp())
    plain = OpenSet()
    plain.scale, plain.null = torch.tensor(trained).log(), torch.tensor(-1e9)
    with torch.no_grad():
        print("whole sets, trained scale, not centred", json.dumps(closed(raw, trained)))
        print("whole sets, fitted, centred", json.dumps(closed(halves[1], scale)))
        untouched = all_trials(raw, torch.Generator().manual_seed(1))
        print("random sets, trained scale, not centred, no none", json.dumps(report(untouched, plain)))
        print("random sets, fitted", json.dumps(report(checking, fitted)))
        for size in SIZES:
            print(size, "labels", json.dumps(report([t for t in checking if t[1].shape[1] == size], fitted)))
        table = {"temperature": trained / scale, "null_logit": float(fitted.null), "label_centring": share,
                 "one_place": [trained / float(one_place.scale.exp()), float(one_place.null)]}
        table.update(match_pairs(stored))
    table.update(image_mean=image_mean.tolist(), text_mean=text_mean.tolist())
    with open(os.path.join(arguments.folder, "calibration.json"), "w", encoding="utf-8") as file:
        json.dump({"logit_scale": trained, "table": table}, file)
    print(json.dumps({k: v for k, v in table.items() if not k.endswith("_mean")}))


if __name__ == "__main__":
    main()
