"""Trains the two heads on the cached features of the frozen backbones. Writes FOLDER/heads.pt."""

import argparse
import copy
import json
import os
import time
from dataclasses import dataclass

import torch
from torch.nn import functional

import held_out
import pictures
from heads import Heads
from material import CAPTIONED, LABELLED, Material


@dataclass
class Settings:
    """One run. The defaults lean to names; weights of the losses have the losses' names."""

    hidden: int = 2048
    dropout: float = 0.4
    steps: int = 1800
    caption_every: int = 3  # more often or larger batches only learn the captions by heart
    caption_batch: int = 192
    captions: float = 2.8
    feature_dropout: float = 0.4  # of the pooled features, under captions only: they are the scarce material
    pool_batch: int = 320
    rate: float = 1e-3
    decay: float = 1e-2
    names: float = 1.2
    groups: float = 0.5
    nouns: float = 0.2
    labelled: float = 0.2
    centring: float = 4.0
    average: float = 0.99
    seed: int = 0


CAPTIONS_FIRST = {"steps": 1500, "caption_every": 2, "captions": 2.5, "dropout": 0.5, "names": 1.0}
# Runs from the same start whose weights are averaged: settings that differ from the defaults, share of the average.
RUNS = (({}, 0.35), (CAPTIONS_FIRST, 0.15), ({"seed": 1}, 0.3), (CAPTIONS_FIRST | {"seed": 1}, 0.2))


def pooled(grid):
    return grid.float().mean(-2)


def random_window(grid, dice):
    """The mean over a random rectangle of the 3 x 3 grid: crops of the picture at no cost."""
    cells = grid.float().reshape(-1, 3, 3, grid.shape[-1])
    weights = torch.zeros(len(cells), 3, 3)
    for axis in (1, 2):
        start = torch.randint(0, 3, (len(cells), 1), generator=dice)
        stop = torch.randint(0, 3, (len(cells), 1), generator=dice)
        low, high = torch.minimum(start, stop), torch.maximum(start, stop)
        line = ((torch.arange(3)[None] >= low) & (torch.arange(3)[None] <= high)).float()
        weights = line[:, :, None] if axis == 1 else weights * line[:, None, :]
        weights = weights.expand(-1, 3, 3)
    weights = weights / weights.sum((1, 2), keepdim=True)
    return (cells * weights[..., None]).sum((1, 2))


class Trainer:
    def __init__(self, material, settings, free_only=False, study=False):
        self.m, self.s, self.study = material, settings, study
        self.dice = torch.Generator().manual_seed(settings.seed)
        allowed = [n for n in pictures.SETS if n != "calib" and (pictures.SETS[n][1] or not free_only)]
        if study:  # these two stand in for unseen sets
            allowed = [n for n in allowed if n != "nips2017"]
        self._gather_captions([n for n in CAPTIONED if n in allowed])
        self._gather_pool(allowed)
        self._gather_labelled([] if study else [n for n in LABELLED if n in allowed])
        vocabulary = material.vocabulary
        self.names = [material.rows(vocabulary["names"])]
        self.names.append(material.rows([w[min(1, len(w) - 1)] for w in vocabulary["synonyms"]]))
        self.groups = [material.rows([w[min(k, len(w) - 1)] for w in vocabulary["groups"]]) for k in range(2)]
        self.membership = material.membership()
        self.nouns = material.rows(vocabulary["nouns"])
        self.common = material.rows(sorted(set(vocabulary["common"]) | set(vocabulary["nouns"])))

    def _gather_captions(self, names):
        keep = {n: ~self.m.held_out(n) for n in names}
        if not names:
            self.caption_views = None
            return
        self.caption_views = torch.cat([self.m.views(n)[:, keep[n]] for n in names], 1)
        self.caption_texts = torch.cat([self.m.captions(n)[keep[n]] for n in names])
        self.noun_shares = torch.cat([self.m.noun_shares(n)[keep[n]] for n in names])

    def _gather_pool(self, names):
        self.pool = torch.cat([self.m.views(n)[:, ~self.m.held_out(n)].flatten(0, 1)
                               for n in names])
        # low-resolution tiny-imagenet is a third of the pictures: fine for distillation
        sample = pooled(self.pool[torch.randperm(len(self.pool), generator=self.dice)[:8000]])
        self.mean, self.deviation = sample.mean(0), sample.std(0) + 1e-3

    def _gather_labelled(self, names):
        self.labelled = []
        for name in names:
            texts, different = self.m.labels(name)
            keep = ~self.m.held_out(name)
            target = torch.tensor([different.index(t) for t in texts])[keep]
            self.labelled.append((self.m.views(name)[:, keep], target, self.m.rows(different)))

    def random(self, high, count):
        return torch.randint(0, high, (count,), generator=self.dice)

    def prompts(self, rows):
        """Phrase vectors under a random template each, or under the mean of all templates."""
        vectors = self.m.phrases[rows]
        if torch.rand(1, generator=self.dice) < 0.5:
            return vectors[:, :4].mean(1)
        return vectors[torch.arange(len(rows)), self.random(vectors.shape[1], len(rows))]

    def caption_loss(self, heads):
        count = self.caption_views.shape[1]
        rows = torch.randperm(count, generator=self.dice)[:self.s.caption_batch]
        view = self.random(len(self.caption_views), len(rows))
        grids = self.caption_views[view, rows]
        features = (pooled(grids) + random_window(grids, self.dice)) / 2
        images = heads.image(functional.dropout(features, self.s.feature_dropout))
        texts = heads.text(self.caption_texts[rows, self.random(5, len(rows))])
        scores, same = images @ texts.T * heads.caption_scale.exp(), torch.arange(len(rows))
        loss = (functional.cross_entropy(scores, same)
                + functional.cross_entropy(scores.T, same)) / 2
        if self.s.nouns:
            share = self.noun_shares[rows]
            some = share.sum(1) > 0
            target = share[some] / share[some].sum(1, keepdim=True)
            loss = loss + self.s.nouns * self.match(heads, images[some], self.nouns, target)
        return loss

    def match(self, heads, images, rows, target):
        """Divergence of the softmax over phrases from a target distribution."""
        scores = images @ heads.text(self.prompts(rows)).T * heads.name_scale.exp()
        return functional.kl_div(functional.log_softmax(scores, -1), target, reduction="batchmean")

    def pool_features(self):
        """Windows of pool pictures, half of them mixed with another, and as many pushed towards a random class."""
        count = self.s.pool_batch
        first = random_window(self.pool[self.random(len(self.pool), count)], self.dice)
        second = pooled(self.pool[self.random(len(self.pool), count)])
        weight = torch.rand(count, 1, generator=self.dice) * 0.5
        mixed = first * (1 - weight) + second * weight
        push = self.m.class_weight[self.random(1000, count)]
        push = push / push.norm(dim=1, keepdim=True) * mixed.norm(dim=1, keepdim=True)
        pushed = (mixed + torch.rand(count, 1, generator=self.dice) * 1.5 * push).clamp(min=0)
        return torch.cat([mixed, pushed])

    def distillation_loss(self, heads):
        features = self.pool_features()
        classes = torch.softmax(features @ self.m.class_weight.T + self.m.class_bias, -1)
        images = heads.image(features)
        names = self.names[0]
        if torch.rand(1, generator=self.dice) < 0.2:
            names = self.names[1]
        loss = self.s.names * self.match(heads, images, names, classes)
        if self.s.groups:
            some = torch.randperm(self.membership.shape[1], generator=self.dice)[:64]
            target = classes @ self.membership[:, some]
            target = target / (target.sum(1, keepdim=True) + 1e-6)
            groups = self.groups[int(torch.rand(1, generator=self.dice) < 0.3)]
            loss = loss + self.s.groups * self.match(heads, images, groups[some], target)
        # Similarities mean the same for every picture and every word only where both kinds have mean zero.
        words = heads.text(self.prompts(self.common[torch.randperm(len(self.common), generator=self.dice)[:256]]))
        centre = images[:self.s.pool_batch].mean(0).square().sum() + words.mean(0).square().sum()
        return loss + self.s.centring * centre

    def labelled_loss(self, heads):
        loss = 0.0
        for views, target, rows in self.labelled:
            some = self.random(len(target), 64)
            images = heads.image(pooled(views[self.random(len(views), 64), some]))
            others = self.common[torch.randperm(len(self.common), generator=self.dice)[:32]]
            scores = images @ heads.text(self.prompts(torch.cat([rows, others]))).T * heads.name_scale.exp()
            loss = loss + functional.cross_entropy(scores, target[some], label_smoothing=0.1)
        return loss

    def train(self, report=100):
        torch.manual_seed(0)  # every run starts from the same weights, so that their average is a model again
        heads = Heads(self.s.hidden, self.s.dropout)
        if self.s.seed:
            torch.manual_seed(self.s.seed)
        heads.mean, heads.deviation = self.mean, self.deviation
        average = copy.deepcopy(heads)
        optimiser = torch.optim.AdamW(heads.parameters(), lr=self.s.rate, weight_decay=self.s.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.s.rate, self.s.steps + 1, pct_start=0.1)
        start, total = time.time(), 0.0
        for step in range(1, self.s.steps + 1):
            loss = self.distillation_loss(heads)
            if self.caption_views is not None and step % self.s.caption_every == 0:
                loss = loss + self.s.captions * self.caption_loss(heads)
            if self.labelled and step % 3 == 0:
                loss = loss + 3 * self.s.labelled * self.labelled_loss(heads)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                keep = min(self.s.average, step / (step + 10))
                for slow, fast in zip(average.parameters(), heads.parameters()):
                    slow.lerp_(fast, 1 - keep)
            total += loss.item()
            if report and step % report == 0:
                print(step, f"loss {total / report:.3f}", f"{time.time() - start:.0f} s", flush=True)
                total = 0.0
        return average.eval()


def averaged(states, shares):
    return {key: sum(share * state[key] for state, share in zip(states, shares)) for key in states[0]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data")
    arguments.add_argument("folder")
    arguments.add_argument("--free-only", action="store_true", help="leave out the sets for research only")
    arguments.add_argument("--study", action="store_true", help="keep nips2017 and all labels out, to compare settings")
    arguments.add_argument("--set", help="one run with these settings, as JSON, in place of the average")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--output", default="heads.pt")
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    material = Material(arguments.data, arguments.folder)
    runs = RUNS if arguments.set is None else ((json.loads(arguments.set), 1.0),)
    states = []
    for number, (different, _) in enumerate(runs):
        trainer = Trainer(material, Settings(**different), arguments.free_only, arguments.study)
        states.append(trainer.train().state_dict())
        print("run", number + 1, "of", len(runs), different, flush=True)
    heads = Heads(trainer.s.hidden)
    heads.load_state_dict(averaged(states, [share for _, share in runs]))
    torch.save({"heads": heads.state_dict(), "hidden": trainer.s.hidden},
               os.path.join(arguments.folder, arguments.output))
    print(json.dumps(held_out.report(heads.eval(), material, everything=arguments.study)), flush=True)


if __name__ == "__main__":
    main()
