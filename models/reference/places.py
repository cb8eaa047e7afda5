"""Gives an exported CLIP vision transformer an output for places: patch tokens with a corrected last block.

    python places.py IMAGE.onnx OUT.onnx            the same graph with one output more, `spatial` [1, D, rows, columns]
    python places.py --miniature FOLDER             a small random tower with it, and PyTorch's answers (a test's golden)

`sextant model import --image OUT.onnx --spatial-output spatial …` then makes a package that knows *where*.

A CLIP's patch tokens do not say what lies where they are: in the last block they attend to each other by
query and key, which gathers what the class token needs. SCLIP (Wang et al. 2023, arXiv 2312.01597) lets each
place attend to its like instead, softmax(q q') + softmax(k k') of the same weights, and leaves the rest of the
block, the last norm and the projection as they are. No training; the graph's first output does not change.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """Look-ups in a graph."""

    def __init__(self, model: onnx.ModelProto):
        self.graph = model.graph
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.users: dict[str, list] = {}
        for node in self.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def matmul_behind(self, name: str) -> tuple[onnx.NodeProto, float]:
        """The matrix product that `name` comes from by scaling alone, and the scale."""
        node, scale = self.maker[name], 1.0
        while node.op_type in ("Mul", "Div"):
            place = next(i for i, operand in enumerate(node.input) if operand in self.constants)
            factor = float(self.constants[node.input[place]].reshape(-1)[0])
            scale *= factor if node.op_type == "Mul" else 1.0 / factor
            node = self.maker[node.input[1 - place]]
        if node.op_type != "MatMul":
            raise SystemExit(f"the last attention is no plain softmax(q k'): it has a {node.op_type}")
        return node, scale

    def scale_of(self, name: str) -> float:
        """What queries or keys were multiplied by since they left their projection."""
        node, scale = self.maker[name], 1.0
        while True:
            constants = [i for i in node.input if i in self.constants]
            if node.op_type in ("Mul", "Div") and constants and self.constants[constants[0]].size == 1:
                factor = float(self.constants[constants[0]].reshape(-1)[0])
                scale *= factor if node.op_type == "Mul" else 1.0 / factor
            elif node.op_type not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze"):
                return scale
            node = self.maker.get(next(i for i in node.input if i not in self.constants))
            if node is None:
                return scale

    def behind(self, name: str) -> set[str]:
        """Everything that depends on `name`."""
        found, open_names = set(), [name]
        while open_names:
            for node in self.users.get(open_names.pop(), []):
                for output in node.output:
                    if output not in found:
                        found.add(output)
                        open_names.append(output)
        return found


def with_places(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the output `spatial`."""
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = Graph(model)
    graph, embedding = model.graph, model.graph.output[0].name
    softmax = [node for node in graph.node if node.op_type == "Softmax"][-1]
    product, scale = known.matmul_behind(softmax.input[0])
    mixed = next(node for node in known.users[softmax.output[0]] if node.op_type == "MatMul")
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    query, key = product.input
    rank = len(shapes[query])
    turn = [*range(rank - 2), rank - 1, rank - 2]
    # The scale of a logit, wherever the exporter put it: on the product, on both sides, or on the query.
    on_query, on_key = known.scale_of(query), known.scale_of(key)
    wanted = scale * on_query * on_key
    nodes, constants = [], []

    def add(kind: str, inputs: list[str], name: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"places/{name}"], f"places/{name}", **attributes))
        return f"places/{name}"

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, f"places/{name}"))
        return f"places/{name}"

    def alike(side: str, right: str, left: str, own: float) -> str:
        logits = add("MatMul", [left, right], f"{side}_product")
        factor = constant(f"{side}_scale", np.float32(wanted / own**2))
        return add("Softmax", [add("Mul", [logits, factor], f"{side}_logits")], f"{side}_weights", axis=-1)

    by_query = alike("query", add("Transpose", [query], "query_turned", perm=turn), query, on_query)
    by_key = alike("key", key, add("Transpose", [key], "key_turned", perm=turn), on_key)
    weights = add("Add", [by_query, by_key], "weights")
    renamed = {mixed.output[0]: add("MatMul", [weights, mixed.input[1]], "mixed")}

    changed = known.behind(mixed.output[0])
    needed, open_names = set(), [embedding]
    while open_names:
        name = open_names.pop()
        if name in changed and name not in needed:
            needed.add(name)
            open_names.extend(known.maker[name].input)
    for node in graph.node:
        if not needed.intersection(node.output):
            continue
        inputs = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Gather" and known.constants.get(node.input[1], np.ones(2)).size == 1:
            renamed[node.output[0]] = inputs[0]  # the class token is picked here: keep all tokens
            continue
        if node.op_type == "Gemm" and len(shapes.get(node.output[0], [])) == 2 and shapes[node.output[0]][0] == 1:
            weight = inputs[1]
            if helper.get_node_attr_value(node, "transB"):
                weight = add("Transpose", [weight], f"{node.name}/turned", perm=[1, 0])
            result = add("MatMul", [inputs[0], weight], f"{node.name}/product")
            renamed[node.output[0]] = add("Add", [result, inputs[2]], node.name) if len(inputs) > 2 else result
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"places/{node.name}"
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        copy.output.extend(f"places/{name}" for name in node.output)
        renamed.update((name, f"places/{name}") for name in node.output)
        nodes.append(copy)

    width = shapes.get(embedding) or [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    tokens = shapes[product.output[0]][-1]
    side = round((tokens - 1) ** 0.5)
    if side * side != tokens - 1:
        raise SystemExit(f"{tokens} tokens are not a class token and a square of patches")
    ends = [constant(name, np.array([value], np.int64)) for name, value in
            (("first", 1), ("last", tokens), ("axis", 1))]
    patches = add("Slice", [renamed[embedding], *ends], "patches")
    turned = add("Transpose", [patches], "turned", perm=[0, 2, 1])
    shape = constant("shape", np.array([1, width[-1], side, side], np.int64))
    nodes.append(helper.make_node("Reshape", [turned, shape], ["spatial"], "places/spatial"))
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.output.append(helper.make_tensor_value_info("spatial", onnx.TensorProto.FLOAT, [1, width[-1], side, side]))
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def reference(visual, pixels):
    """The same in PyTorch, from open_clip's modules and in the formula's own terms: [places, D] unit rows."""
    import torch
    from torch.nn import functional

    tokens = visual._embeds(pixels)
    *before, last = visual.transformer.resblocks
    for block in before:
        tokens = block(tokens)
    attention, normed = last.attn, last.ln_1(tokens)
    projected = functional.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    heads = attention.num_heads
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, -1))
    scale = query.shape[-1] ** -0.5
    weights = sum(torch.softmax(side @ side.transpose(-1, -2) * scale, -1) for side in (query, key))
    gathered = attention.out_proj((weights @ value).transpose(1, 2).flatten(-2))
    tokens = tokens + last.ls_1(gathered)
    tokens = tokens + last.ls_2(last.mlp(last.ln_2(tokens)))
    return functional.normalize(visual.ln_post(tokens[:, 1:]) @ visual.proj, dim=-1)


def write_miniature(folder: Path) -> None:
    """A tower of two blocks, exported and given its places, with PyTorch's answers to the first two photos of `vitb32`."""
    import tempfile

    import open_clip
    import torch

    import architectures
    import export
    import pictures

    torch.manual_seed(architectures.SEED)
    torch.backends.mha.set_fastpath_enabled(False)
    size = 64
    preprocessing = architectures.Preprocessing("openai-clip", size)
    model = open_clip.CLIP(
        embed_dim=24, quick_gelu=True,
        vision_cfg=dict(image_size=size, layers=2, width=32, head_width=16, patch_size=16),
        text_cfg=dict(context_length=8, vocab_size=700, width=16, heads=1, layers=1),
    ).eval()
    architectures.perturb(model)
    prepared = [pictures.prepare(photo, preprocessing) for photo in pictures.photos()][:2]
    inputs = torch.from_numpy(np.stack([tensor for _, tensor in prepared]).astype(np.float32))
    architectures.enliven(model, inputs, image_gain=10.0, text_gain=8.0, centring=0.9)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "image.onnx"
        export.export(architectures.ImageTower(model).eval(), {"pixel_values": inputs[:1]}, "image_embeds", plain, False)
        onnx.save(with_places(onnx.load(plain)), folder / "image.onnx")
        before = export.session(plain).run(None, {"pixel_values": inputs[:1].numpy()})[0]
    tower, grids = export.session(folder / "image.onnx"), []
    for pixels in inputs:
        embedding, spatial = tower.run(None, {"pixel_values": pixels[None].numpy()})
        with torch.no_grad():
            expected = reference(model.visual, pixels[None])[0].numpy()
        found = spatial[0].reshape(spatial.shape[1], -1).T
        worst = float(export.cosines(found, expected).min())
        print(f"places: onnxruntime against PyTorch, worst cosine {worst:.7f} of {len(expected)} places")
        if worst < 0.99999:
            raise SystemExit("the graph does not compute the corrected block")
        grids.append([[float(f"{x:.6g}") for x in row] for row in expected])
    after = tower.run(None, {"pixel_values": inputs[:1].numpy()})[0]
    if not np.array_equal(before, after):
        raise SystemExit("the embedding changed")
    case = {"generator": "models/reference/places.py", "rows": size // 16, "columns": size // 16, "places": grids}
    (folder / "places.json").write_text(json.dumps(case) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--miniature", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.miniature:
        write_miniature(arguments.miniature)
    elif arguments.image and arguments.out:
        onnx.save(with_places(onnx.load(arguments.image)), arguments.out)
    else:
        parser.error("IMAGE.onnx and OUT.onnx, or --miniature FOLDER")


if __name__ == "__main__":
    main()
