"""WordNet 3.0's nouns, read from its data files (Debian package `wordnet-base`)."""

import os
from collections import Counter
from dataclasses import dataclass, field

# Lexicographer files of things that a camera can see.
VISIBLE = {5: "animal", 6: "artifact", 8: "body", 13: "food", 15: "location", 17: "object", 18: "person", 20: "plant"}
THINGS = (5, 6, 13, 17, 20)


@dataclass
class Synset:
    offset: str
    file: int
    words: list
    hypernyms: list = field(default_factory=list)


class WordNet:
    def __init__(self, folder):
        self.synsets = {}
        with open(os.path.join(folder, "data.noun"), encoding="latin1") as file:
            for line in file:
                if not line.startswith(" "):
                    self._read(line)
        self.senses = {}  # lemma -> synsets, the commonest first
        with open(os.path.join(folder, "index.noun"), encoding="latin1") as file:
            for line in file:
                if not line.startswith(" "):
                    parts = line.split()
                    count = int(parts[2])
                    self.senses[parts[0].replace("_", " ")] = parts[-count:]
        with open(os.path.join(folder, "noun.exc"), encoding="latin1") as file:
            self.irregular = {p[0].replace("_", " "): p[1].replace("_", " ") for p in map(str.split, file)}
        self.counts = Counter()
        with open(os.path.join(folder, "cntlist.rev"), encoding="latin1") as file:
            for line in file:
                key, _, count = line.split()
                lemma, sense = key.split("%")
                if sense.startswith("1:"):
                    self.counts[lemma.replace("_", " ")] += int(count)

    def _read(self, line):
        head = line.split("|", 1)[0].split()
        words = int(head[3], 16)
        names = [head[4 + 2 * i].replace("_", " ") for i in range(words)]
        first = 4 + 2 * words
        pointers = range(first + 1, first + 1 + 4 * int(head[first]), 4)
        above = [head[p + 1] for p in pointers if head[p] in ("@", "@i")]
        self.synsets[head[0]] = Synset(head[0], int(head[1]), names, above)

    def ancestors(self, offset):
        """All hypernyms above a synset, nearest first, without itself."""
        found, queue = [], [offset]
        while queue:
            for above in self.synsets[queue.pop(0)].hypernyms:
                if above not in found:
                    found.append(above)
                    queue.append(above)
        return found

    def lemma(self, word):
        """The singular noun of a word in a sentence, or None."""
        word = word.lower()
        if word in self.irregular:
            return self.irregular[word]
        endings = (("", ""), ("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("ses", "s"), ("s", ""))
        for ending, replacement in endings:
            if word.endswith(ending):
                candidate = word[:len(word) - len(ending)] + replacement
                if candidate in self.senses:
                    return candidate
        return None

    def is_visible(self, lemma, files=VISIBLE):
        """Whether the commonest sense of a noun is a visible thing, of the given kinds."""
        senses = self.senses.get(lemma)
        return bool(senses) and self.synsets[senses[0]].file in files
