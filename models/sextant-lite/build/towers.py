"""Runs a pair of exported towers with onnxruntime."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import torch
from torch.nn import functional

import measure
import pictures
import text_backbone


class Towers:
    """`suffix` is "" for the int8 towers and ".fp32" for the others."""

    def __init__(self, folder, suffix=""):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = lambda name: onnxruntime.InferenceSession(
            os.path.join(folder, f"{name}{suffix}.onnx"), options, providers=["CPUExecutionProvider"])
        self.image_session, self.text_session = session("image"), session("text")
        self.tokenizer = text_backbone.load_tokenizer()
        self.known = {}

    def images(self, files):
        """Normalised embeddings [files, 384]."""
        run = lambda f: self.image_session.run(["embedding"], {"pixels": pictures.load_view(f, 0)[None]})[0][0]
        return self._all(run, files)

    def texts(self, texts):
        for text in set(texts) - self.known.keys():
            self.known[text] = None
        wanted = [t for t, v in self.known.items() if v is None]
        if wanted:
            self.known.update(zip(wanted, self._all(self._text, wanted)))
        return torch.stack([self.known[t] for t in texts])

    def _text(self, text):
        ids = np.array([self.tokenizer.encode(text).ids])
        return self.text_session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]

    def labels(self, names, templates):
        """Prompt ensembles: the mean of the normalised template embeddings, renormalised."""
        vectors = self.texts([t.format(n) for n in names for t in templates])
        return measure.ensemble(vectors.reshape(len(names), len(templates), -1))

    @staticmethod
    def _all(run, items):
        with ThreadPoolExecutor(2) as pool:
            return functional.normalize(torch.from_numpy(np.stack(list(pool.map(run, items)))), dim=-1)
