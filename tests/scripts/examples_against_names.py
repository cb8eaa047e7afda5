"""Does a handful of examples a class label better than the classes' names?

    python tests/scripts/examples_against_names.py SEXTANT IMAGES TABLE NAMES [--shots 5] [--seeds 24]

TABLE has a picture and a class number a line, NAMES a class name a line. Of every class with at least four pictures more
than `--shots`, that many drawn pictures become a folder for `sextant label --examples`, and up to 25 others are
labelled: by the names alone, and by names and examples. Needs nothing but Python.
"""
import argparse
import collections
import json
import random
import subprocess
import tempfile
from pathlib import Path

LEFT_OUT = 4
MOST = 25


def answers(sextant: Path, options: list[str], pictures: list[Path]) -> list[str]:
    command = [str(sextant), "label", "--quiet", "--format", "json", "--top", "1", *options, *map(str, pictures)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line)["labels"][0]["name"] for line in done.stdout.splitlines()]


def trial(arguments: argparse.Namespace, classes: dict[str, list[Path]], seed: int) -> tuple[int, int, int]:
    """Pictures labelled, and how many of them rightly by names and by examples."""
    dice, pictures, truth = random.Random(seed), [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in sorted(classes.items()):
            files = files[:]
            dice.shuffle(files)
            (Path(folder) / name).mkdir()
            for file in files[: arguments.shots]:
                (Path(folder) / name / file.name).symlink_to(file.resolve())
            held_out = files[arguments.shots :][:MOST]
            pictures += held_out
            truth += [name] * len(held_out)
        named = answers(arguments.sextant, ["--labels", ",".join(sorted(classes))], pictures)
        taught = answers(arguments.sextant, ["--examples", folder], pictures)
    right = [sum(a == b for a, b in zip(found, truth)) for found in (named, taught)]
    return len(truth), right[0], right[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sextant", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("names", type=Path)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=24)
    arguments = parser.parse_args()
    names = arguments.names.read_text(encoding="utf-8").splitlines()
    classes = collections.defaultdict(list)
    for line in arguments.table.read_text(encoding="utf-8").splitlines():
        file, number = line.split("\t")[:2]
        classes[names[int(number)]].append(arguments.images / file)
    classes = {name: files for name, files in classes.items() if len(files) >= arguments.shots + LEFT_OUT}
    total = [0, 0, 0]
    for seed in range(arguments.seeds):
        found = trial(arguments, classes, seed)
        total = [a + b for a, b in zip(total, found)]
        print(f"seed {seed}: {found[0]} pictures, names {found[1]} right, examples {found[2]} right", flush=True)
    share = [100 * right / total[0] for right in total[1:]]
    print(f"{len(classes)} classes, {total[0]} labels: names {share[0]:.1f} %, examples {share[1]:.1f} %")


if __name__ == "__main__":
    main()
