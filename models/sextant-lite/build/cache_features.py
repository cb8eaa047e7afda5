"""Runs the frozen backbone once over every training picture and keeps the pooled features.

Writes FOLDER/features/SET.VIEW.npy, float16 [pictures, 9, 1280]. View 0 is the plain one, for measuring, of
`pictures.measured`; views 1 and up are random ones, for training, of `pictures.files_of`.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime

import image_backbone
import pictures

BATCH = 16


def features_of(session, files, number, squashed, pool):
    def batch(start):
        views = [pictures.load_view(f, number, squashed) for f in files[start:start + BATCH]]
        return session.run(None, {"pixels": np.stack(views)})[0].astype(np.float16)

    return np.concatenate(list(pool.map(batch, range(0, len(files), BATCH))))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data")
    arguments.add_argument("folder")
    arguments.add_argument("--views", type=int, default=2, help="random views of a picture")
    arguments = arguments.parse_args()
    os.makedirs(os.path.join(arguments.folder, "features"), exist_ok=True)
    graph = os.path.join(arguments.folder, "pooled.onnx")
    if not os.path.exists(graph):
        image_backbone.export_pooled(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    with ThreadPoolExecutor(2) as pool:
        for number in range(arguments.views + 1):
            for name, (_, _, squashed) in pictures.SETS.items():
                path = os.path.join(arguments.folder, "features", f"{name}.{number}.npy")
                files = pictures.files_of(arguments.data, name) if number else pictures.measured(arguments.data, name)
                if os.path.exists(path) or not files or number > pictures.random_views(name, arguments.views):
                    continue
                features = features_of(session, files, number, squashed, pool)
                with open(path + ".part", "wb") as file:
                    np.save(file, features)
                os.replace(path + ".part", path)
                print(name, number, features.shape, flush=True)


if __name__ == "__main__":
    main()
