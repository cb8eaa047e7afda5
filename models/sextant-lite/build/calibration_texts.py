"""Writes the texts that the text tower's rounding is calibrated with, FOLDER/texts.txt: two captions of each
calibration picture, and as many class names and everyday nouns in the templates.
"""

import argparse
import json
import os
import random


def texts(vocabulary):
    captions = [caption for five in vocabulary["captions"]["calib"].values() for caption in five[:2]]
    dice = random.Random(0)
    phrases = vocabulary["names"] + vocabulary["common"]
    phrases = dice.sample(phrases, len(captions))
    lines = captions + [dice.choice(vocabulary["templates"]).format(p) for p in phrases]
    dice.shuffle(lines)
    return lines


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder")
    folder = arguments.parse_args().folder
    with open(os.path.join(folder, "vocabulary.json"), encoding="utf-8") as file:
        lines = texts(json.load(file))
    with open(os.path.join(folder, "texts.txt"), "w", encoding="utf-8") as file:
        file.write("".join(" ".join(line.split()) + "\n" for line in lines))


if __name__ == "__main__":
    main()
