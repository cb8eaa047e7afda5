#!/usr/bin/env python3
"""Towers of sextant against onnxruntime and OpenVINO (and rten, if its command is given), alternating.

    pip install -r benches/peers/requirements.txt
    sextant model import … -o clip             # a package in single precision
    sextant model quantize clip -o clip-int8 --calibrate PHOTOS
    python benches/peers/towers.py clip clip-int8 --photos PHOTOS [--threads 1 2] [--tokens 8 16 32]

Every engine gets the same tower from the same fp32 file, quantised by its own tools (`prepare.py`), the
same processors and the same number of threads, and they take turns, round by round, so that what else
the computer does hits all alike. Python engines stay loaded between their turns; sextant is started anew
for each. It starts from 8-bit pixels, the others from a finished float tensor. The table gives, for each
engine, the median over the rounds of each round's median (and 95th percentile), and ours divided by
theirs: the median over the rounds of the ratio within a round.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import openvino

import prepare

HERE = Path(__file__).parent

# Runs of rten before those that count.
WARM_UP = 3


def keep_to(threads: int):
    """For a child process: as many processors as threads."""
    processors = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, processors)


class Python:
    """An engine in a Python process of its own (`engine.py`)."""

    def __init__(self, engine: str, model: Path, inputs: Path, threads: int, repetitions: int):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "engine.py"), engine, str(model), str(inputs), str(threads),
             str(repetitions)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.embedding = np.array(self.answer()["embedding"])

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine ended: {self.process.args}")
        return json.loads(line)

    def turn(self) -> dict:
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Sextant:
    """`sextant bench`, for one tower."""

    embedding = None

    def __init__(self, program: str, package: Path, stage: str, tokens: int, threads: int, repetitions: int,
                 kernels: str | None):
        self.command = [program, "bench", "--model", str(package), "--only", stage, "--threads", str(threads),
                        "--iterations", str(repetitions), "--seconds", "60", "--tokens", str(tokens),
                        "--format", "json", "--quiet"]
        self.stage, self.threads = stage, threads
        self.environment = {**os.environ, **({"SEXTANT_KERNELS": kernels} if kernels else {})}

    def turn(self) -> dict:
        output = subprocess.run(self.command, env=self.environment, check=True, text=True, stdout=subprocess.PIPE,
                                preexec_fn=keep_to(self.threads)).stdout
        report = json.loads(output)
        steps = [step for step in report["steps"] if step["stage"] == self.stage
                 and step["threads"] == self.threads and not step["what"].startswith("tokenise")]
        return {**steps[-1], "peak_kib": report["peak_memory"]["whole_kib"]}

    def stop(self) -> None:
        pass


class Rten:
    """rten's own command, which prints the time of each run; its inputs are random numbers."""

    embedding = None

    def __init__(self, program: str, model: Path, threads: int, repetitions: int):
        self.command = [program, "--n-iters", str(WARM_UP + repetitions), "--num-threads", str(threads), "--prepack",
                        str(model)]
        self.threads = threads

    def turn(self) -> dict:
        output = subprocess.run(self.command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                preexec_fn=keep_to(self.threads)).stdout
        times = [float(time) for time in re.findall(r"^ *#\d+ - .* in ([\d.]+)ms", output, re.M)][WARM_UP:]
        if not times:
            raise RuntimeError(f"rten printed no times: {output[-300:]}")
        return {"median_ms": statistics.median(times), "p95_ms": float(np.percentile(times, 95)), "peak_kib": 0}

    def stop(self) -> None:
        pass


def cosine(a: np.ndarray | None, b: np.ndarray) -> str:
    return "" if a is None else f"{a @ b / np.sqrt((a @ a) * (b @ b)):.4f}"


def with_tokens(package: Path, tower: Path, tokens: int, work: Path) -> Path:
    """A copy of a package whose text tower is another graph, for fewer tokens."""
    folder = work / f"{package.name}-{tokens}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(package, folder)
    text = (folder / "model.toml").read_text()
    head, section = text.split("[text]", 1)
    file = re.search(r'^file = "(.+)"', section, re.M)[1]
    shutil.copyfile(tower, folder / file)
    digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    section = re.sub(r'^sha256 = ".+"', f'sha256 = "{digest}"', section, count=1, flags=re.M)
    section = re.sub(r"^context_length = \d+", f"context_length = {tokens}", section, flags=re.M)
    (folder / "model.toml").write_text(head + "[text]" + section)
    return folder


def our_text_package(options: argparse.Namespace, files: dict[str, Path], tokens: int, work: Path) -> Path:
    """The int8 package, with the text tower cut and quantised anew if it has a fixed length."""
    if not (work / f"text{tokens}.onnx").exists():
        return options.int8
    folder = work / f"int8-{tokens}"
    if not folder.exists():
        short = with_tokens(options.fp32, files["fp32"].resolve(), tokens, work)
        subprocess.run([options.program, "model", "quantize", str(short), "-o", str(folder), "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
    return folder


def engines(options, files, inputs, stage, tokens, threads, package) -> dict:
    repetitions = options.repetitions
    made = {}
    for kernels in options.kernels or [None]:
        name = "sextant int8" + (f", {kernels}" if kernels else "")
        made[name] = Sextant(options.program, package, stage, tokens, threads, repetitions, kernels)
    for name, engine, kind in [("onnxruntime fp32", "onnxruntime", "fp32"),
                               ("onnxruntime int8, dynamic", "onnxruntime", "dynamic"),
                               ("onnxruntime int8, static", "onnxruntime", "static"),
                               ("OpenVINO int8, static", "openvino", "static")]:
        made[name] = Python(engine, files[kind], inputs, threads, repetitions)
    if options.rten and stage == "image":
        for kind in ("fp32", "dynamic", "static"):
            made[f"rten {kind if kind == 'fp32' else f'int8, {kind}'}"] = Rten(
                options.rten, files[kind], threads, repetitions)
    return made


def compare(options, title, files, inputs, stage, tokens, threads, package) -> None:
    competitors = engines(options, files, inputs, stage, tokens, threads, package)
    turns = {name: [] for name in competitors}
    for _ in range(options.rounds):
        for name, engine in competitors.items():
            turns[name].append(engine.turn())
    reference = competitors["onnxruntime fp32"].embedding
    ours = [name for name in competitors if name.startswith("sextant")]
    medians = {name: statistics.median(turn["median_ms"] for turn in list_) for name, list_ in turns.items()}
    best = min((name for name in medians if "int8" in name and name not in ours), key=medians.get)
    print(f"\n**{title}, {threads} thread(s)**\n")
    print(f"| engine | ms, median | p95 | {' | '.join(f'{name} / this' for name in ours)} | cosine to fp32 |")
    print(f"|---|---|---|{'---|' * len(ours)}---|")
    for name, list_ in turns.items():
        p95 = statistics.median(turn["p95_ms"] for turn in list_)
        ratios = [statistics.median(a["median_ms"] / b["median_ms"] for a, b in zip(turns[our], list_))
                  for our in ours]
        shown = f"**{name}** (best peer)" if name == best else name
        print(f"| {shown} | {medians[name]:.2f} | {p95:.2f} | {' | '.join(f'{r:.2f}' for r in ratios)}"
              f" | {cosine(competitors[name].embedding, reference)} |", flush=True)
    for engine in competitors.values():
        engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fp32", type=Path, help="package in single precision")
    parser.add_argument("int8", type=Path, help="the same, quantised by `sextant model quantize`")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs to calibrate with")
    parser.add_argument("--calibration", type=int, default=24, help="how many of them")
    parser.add_argument("--program", default="target/release/sextant")
    parser.add_argument("--rten", help="the `rten` command (`cargo install rten-cli@0.27.0`); image towers only")
    parser.add_argument("--kernels", nargs="*", help="SEXTANT_KERNELS to try, such as avx2")
    parser.add_argument("--work", type=Path, help="folder to keep graphs in [default: FP32-peers]")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--tokens", type=int, nargs="*", default=[8, 16, 32], help="none: image tower only")
    parser.add_argument("--no-image", action="store_true", help="text tower only")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repetitions", type=int, default=30, help="runs within a turn")
    options = parser.parse_args()
    work = options.work or options.fp32.with_name(options.fp32.name + "-peers")
    work.mkdir(parents=True, exist_ok=True)
    available = len(os.sched_getaffinity(0))
    if max(options.threads) > available:
        raise SystemExit(f"--threads: this computer has {available} processors")
    version = subprocess.run([options.program, "--version"], check=True, text=True, stdout=subprocess.PIPE).stdout
    print(f"{version.strip()}\nonnxruntime {onnxruntime.__version__}, openvino {openvino.__version__};"
          f" {options.rounds} alternating rounds of {options.repetitions} runs;"
          f" load average before: {os.getloadavg()[0]:.1f}")
    if not options.no_image:
        files, inputs = prepare.image_tower(options.fp32, work, options.photos, options.calibration)
        for threads in options.threads:
            compare(options, f"{options.fp32.name}, image", files, inputs, "image", 8, threads, options.int8)
    for tokens in options.tokens:
        files, inputs = prepare.text_tower(options.fp32, work, tokens)
        package = our_text_package(options, files, tokens, work)
        for threads in options.threads:
            title = f"{options.fp32.name}, text of {tokens} tokens"
            compare(options, title, files, inputs, "text", tokens, threads, package)


if __name__ == "__main__":
    main()
