#!/usr/bin/env python3
"""The index against exact searches of faiss, usearch and numpy, on the same vectors.

    pip install faiss-cpu==1.15.1 usearch==2.26.6 numpy==2.4.6
    cargo build --release --example index_timing
    python benches/peers/index_peers.py [--rows 1000000] [--dimension 384] [--vectors REAL.npy]

All engines take turns, round by round, so that what else the machine does hits all alike; the
table gives medians and the best, and each engine's time divided by ours. Vectors are clustered
noise, or real ones from a .npy file: those are repeated with a little noise if there are too
few. With real ones it also prints the overlap of int8 with float rows and the recall of --fast.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import usearch
from usearch.index import MetricKind, search as usearch_search

K = 10


def make_vectors(rows: int, dimension: int, real: str | None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    if real:
        base = np.load(real).astype(np.float32)
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        queries, base = base[:64], base[64:]
        if rows > len(base):
            spread = 0.5 / np.sqrt(base.shape[1])
            copies = base[random.integers(len(base), size=rows - len(base))]
            copies += np.float32(spread) * random.standard_normal(copies.shape, dtype=np.float32)
            base = np.concatenate([base, copies])
        vectors = base[:rows]
    else:
        centres = random.normal(size=(1000, dimension)).astype(np.float32)
        def draw(count):
            noise = random.standard_normal((count, dimension), dtype=np.float32)
            return 0.7 * centres[random.integers(1000, size=count)] + noise
        vectors, queries = draw(rows), draw(64)
    return tuple(
        np.ascontiguousarray(v / np.linalg.norm(v, axis=1, keepdims=True), dtype=np.float32)
        for v in (vectors, queries)
    )


class Ours:
    def __init__(self, program: str, folder: str, vectors: np.ndarray, queries: np.ndarray):
        paths = [str(Path(folder) / name) for name in ("vectors.npy", "queries.npy")]
        for path, array in zip(paths, (vectors, queries)):
            np.save(path, array)
        self.process = subprocess.Popen(
            [program, *paths, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def timed(function) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    rows = function()
    return (time.perf_counter() - start) * 1e3, rows


def overlap(left, right) -> float:
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(left, right)]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--vectors")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--program", default="target/release/examples/index_timing")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    vectors, queries = make_vectors(options.rows, options.dimension, options.vectors)
    rows, dimension = vectors.shape
    threads = options.threads
    faiss.omp_set_num_threads(threads)

    flat = faiss.IndexFlatIP(dimension)
    flat.add(vectors)
    quantised = faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    quantised.train(vectors[:100_000])
    quantised.add(vectors)
    small = np.round(vectors / np.abs(vectors).max(axis=1, keepdims=True) * 127).astype(np.int8)
    small_queries = np.round(
        queries / np.abs(queries).max(axis=1, keepdims=True) * 127).astype(np.int8)

    def numpy_search(count):
        scores = vectors @ queries[:count].T
        best = np.argpartition(-scores, K, axis=0)[:K]
        order = np.take_along_axis(-scores, best, axis=0).argsort(axis=0)
        return np.take_along_axis(best, order, axis=0).T

    def usearch_exact(count):
        found = usearch_search(
            small, small_queries[:count], K, MetricKind.Cos, exact=True, threads=threads)
        return np.atleast_2d(found.keys)

    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(options.program, folder, vectors, queries)

        def asked(mode, count):
            answer = ours.ask(f"{mode} {threads} {count}")
            return answer["ms"], answer["rows"]

        def engines(count):
            return {
                "sextant int8": lambda: asked("exact", count),
                "sextant --fast": lambda: asked("fast", count),
                "faiss IndexScalarQuantizer 8 bit": lambda: timed(
                    lambda: quantised.search(queries[:count], K)[1]),
                "faiss IndexFlatIP": lambda: timed(lambda: flat.search(queries[:count], K)[1]),
                "usearch exact int8": lambda: timed(lambda: usearch_exact(count)),
                "numpy float32": lambda: timed(lambda: numpy_search(count)),
            }

        exact = flat.search(queries, K)[1]
        print(f"{rows} rows of {dimension}, top {K}, {threads} thread(s), {options.rounds} rounds;"
              f" faiss {faiss.__version__}, usearch {usearch.__version__}, numpy {np.__version__}")
        print("| engine | queries | ms, median (best) | times ours (best) | overlap with float |")
        print("|---|---|---|---|---|")
        for count in (1, 16):
            times = {name: [] for name in engines(count)}
            found = {}
            for _ in range(options.rounds):
                for name, run in engines(count).items():
                    milliseconds, found[name] = run()
                    times[name].append(milliseconds)
            our = times["sextant int8"]
            for name, list_ in times.items():
                print(f"| {name} | {count} | {np.median(list_):.2f} ({min(list_):.2f})"
                      f" | {np.median(list_) / np.median(our):.2f} ({min(list_) / min(our):.2f})"
                      f" | {overlap(found[name], exact[:count]):.3f} |")
        int8 = asked("exact", 64)[1]
        print(f"64 queries: overlap@{K} of int8 with float rows {overlap(int8, exact):.4f},"
              f" recall@{K} of --fast against exact int8 {overlap(asked('fast', 64)[1], int8):.4f}")
        memory = ours.ask("memory")["kilobytes"]
        print(f"anonymous memory of the searching process: {memory / 1024:.1f} MB")
        ours.process.stdin.close()
        ours.process.wait()


if __name__ == "__main__":
    main()
