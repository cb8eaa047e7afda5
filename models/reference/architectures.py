"""The architectures `sextant model import` must run, with random weights, at full size and in miniature.

Every tower is built from the classes that real users export: open_clip's `CLIP` and `CustomTextCLIP`,
timm's FastViT and SigLIP vision transformer, and transformers' BERT through open_clip's `HFTextEncoder`.
Weights are random but not plain: a fresh network has unit norms, zero biases and almost uniform
attention, all of which an engine may fold away or get right by luck. `perturb` removes that luck.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import open_clip
import torch
from open_clip.constants import (
    IMAGENET_MEAN, IMAGENET_STD, INCEPTION_MEAN, INCEPTION_STD, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD,
)
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from timm.models.fastvit import RepConditionalPosEnc, _create_fastvit
from timm.models.registry import register_model
from timm.models.vision_transformer import _create_vision_transformer
from timm.utils import reparameterize_model
from transformers import BertConfig

import pictures

SEED = 20


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the image tower's input; the words are open_clip's."""

    preset: str
    size: int
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = OPENAI_DATASET_MEAN
    std: tuple[float, float, float] = OPENAI_DATASET_STD
    resize_size: int | None = None  # the side to resize to before the crop, where it is not `size`


@dataclass(frozen=True)
class Text:
    """How a text becomes the text tower's input: token ids, padded with `pad_id` to `context_length`."""

    tokenizer: str  # clip | siglip | bert
    context_length: int
    pad_id: int
    attention_mask: bool = False  # the graph takes an attention mask and token types as well
    dynamic: bool = False  # batch and length are symbolic, and texts are not padded


@dataclass(frozen=True)
class Architecture:
    """One dual encoder: its modules and what must be known to feed them."""

    name: str
    description: str
    preprocessing: Preprocessing
    text: Text
    model: torch.nn.Module = field(repr=False)
    logit_scale: float = 100.0
    logit_bias: float = 0.0


def perturb(model: torch.nn.Module, seed: int = SEED) -> None:
    """Moves norms off unity, biases off zero, and sharpens attention, as training would have done."""
    noise = torch.Generator().manual_seed(seed)

    def randn(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=noise)

    norms = (torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, norms) and module.weight is not None:
                module.weight.add_(0.1 * randn(module.weight))
                module.bias.add_(0.05 * randn(module.bias))
            # Queries and keys of a fresh block give almost uniform attention: a wrong mask or a
            # wrong scale would hardly show.
            if isinstance(module, torch.nn.MultiheadAttention):
                module.in_proj_weight[: 2 * module.embed_dim].mul_(3.0)
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and float(parameter.abs().max()) == 0.0:
                parameter.add_(0.02 * randn(parameter))


def enliven(model: torch.nn.Module, inputs: torch.Tensor, image_gain: float, text_gain: float,
            centring: float) -> None:
    """Makes embeddings depend on the input as a trained model's do.

    In a fresh network position and class embeddings outweigh the content, so that all pictures land
    within a cosine of 0.99 of each other and a comparison by cosine could not fail. Content is scaled
    up, and a share of the mean embedding of `inputs` is taken off by the last bias of the image tower.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings > 600:
                module.weight.mul_(text_gain)
        visual = model.visual
        if isinstance(visual, TimmModel):
            trunk = visual.trunk
            if hasattr(trunk, "patch_embed"):  # a SigLIP vision transformer, not a FastViT
                trunk.patch_embed.proj.weight.mul_(image_gain)
                bias = trunk.attn_pool.mlp.fc2.bias
            else:
                bias = trunk.head.fc.bias
            bias.sub_(centring * visual(inputs).mean(0))
        else:
            visual.conv1.weight.mul_(image_gain)
            seen = []
            hook = visual.ln_post.register_forward_hook(lambda _m, _i, out: seen.append(out[:, 0]))
            visual(inputs)
            hook.remove()
            visual.ln_post.bias.sub_(centring * seen[0].mean(0))


def measure_batch_norms(module: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Sets every batch norm's statistics from `inputs`; made-up ones let signals die or explode with depth."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    module.train()
    with torch.no_grad():
        module(inputs)
    module.eval()
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum


# ---- timm models in miniature: the same classes with fewer and narrower layers ----------------------

@register_model
def sextant_mini_fastvit(pretrained=False, **kwargs):
    """`fastvit_mci0` (MobileCLIP-S0, MobileCLIP2-S0), one block a stage."""
    arguments = dict(
        layers=(1, 1, 1, 1), embed_dims=(16, 32, 64, 64), mlp_ratios=(3, 3, 3, 3),
        se_downsamples=(False, False, True, True),
        pos_embs=(None, None, None, partial(RepConditionalPosEnc, spatial_shape=(7, 7))),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"), lkc_use_act=True,
    )
    return _create_fastvit("fastvit_mci0", pretrained=pretrained, **dict(arguments, **kwargs))


@register_model
def sextant_mini_siglip(pretrained=False, **kwargs):
    """`vit_base_patch16_siglip_224`, two blocks of width 48; attention ("map") pooling."""
    arguments = dict(
        img_size=64, patch_size=16, embed_dim=48, depth=2, num_heads=3, class_token=False, global_pool="map",
    )
    return _create_vision_transformer("vit_base_patch16_siglip_224", pretrained=pretrained, **dict(arguments, **kwargs))


def _statistics_inputs(preprocessing: Preprocessing) -> torch.Tensor:
    return torch.from_numpy(pictures.tensors(pictures.crops(pictures.photos()), preprocessing))


def _clip(mini: bool, vocabulary: int) -> Architecture:
    size = 64 if mini else 224
    if mini:
        model = open_clip.CLIP(
            embed_dim=48, quick_gelu=True,
            vision_cfg=dict(image_size=size, layers=2, width=64, head_width=64, patch_size=16),
            text_cfg=dict(context_length=77, vocab_size=vocabulary, width=64, heads=1, layers=2),
        )
    else:
        model = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None)
    return Architecture(
        "vitb32", "OpenAI CLIP ViT-B/32 (QuickGELU, causal text tower)",
        Preprocessing("openai-clip", size), Text("clip", 77, 0), model,
    )


def _tinyclip(mini: bool, vocabulary: int) -> Architecture:
    size = 48 if mini else 224
    if mini:
        vision = dict(image_size=size, layers=3, width=48, patch_size=16, head_width=24)
        text = dict(context_length=77, vocab_size=vocabulary, width=32, heads=2, layers=2)
    else:
        vision = dict(image_size=size, layers=10, width=256, patch_size=16, head_width=64)
        text = dict(context_length=77, vocab_size=vocabulary, width=256, heads=4, layers=3)
    model = open_clip.CLIP(embed_dim=32 if mini else 512, vision_cfg=vision, text_cfg=text)
    return Architecture(
        "tinyclip", "TinyCLIP ViT-8M/16 (GELU, causal text tower)",
        Preprocessing("open-clip", size), Text("clip", 77, 0), model, logit_scale=50.0,
    )


def _mobileclip(mini: bool, vocabulary: int) -> Architecture:
    size = 64 if mini else 256
    if mini:
        model = open_clip.CustomTextCLIP(
            embed_dim=48,
            vision_cfg=dict(timm_model_name="sextant_mini_fastvit", timm_pool="avg", timm_proj=None,
                            timm_drop=0.0, timm_drop_path=0.0, image_size=size),
            text_cfg=dict(context_length=77, vocab_size=vocabulary, width=48, heads=2, layers=2, no_causal_mask=True),
        )
    else:
        model = open_clip.create_model("MobileCLIP2-S0", pretrained=None)
    # The branches are merged after they have been given statistics of their own: merging a fresh
    # network would test nothing.
    preprocessing = Preprocessing("mobileclip", size, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)
    perturb(model.visual)
    measure_batch_norms(model.visual, _statistics_inputs(preprocessing))
    model = reparameterize_model(model.eval())
    return Architecture(
        "mobileclip2s0", "MobileCLIP2-S0 (FastViT MCi0, reparameterised; text tower without a mask)",
        preprocessing, Text("clip", 77, 0), model, logit_scale=80.0,
    )


def _siglip(mini: bool, vocabulary: int) -> Architecture:
    size = 64 if mini else 224
    if mini:
        model = open_clip.CustomTextCLIP(
            embed_dim=48, init_logit_bias=-10,
            vision_cfg=dict(timm_model_name="sextant_mini_siglip", timm_pool="map", timm_proj="none", image_size=size),
            text_cfg=dict(context_length=64, vocab_size=vocabulary, width=48, heads=3, layers=2, no_causal_mask=True,
                          proj_bias=True, pool_type="last", norm_kwargs=dict(eps=1e-6)),
        )
    else:
        model = open_clip.create_model("ViT-B-16-SigLIP", pretrained=None)
    return Architecture(
        "siglipb16", "SigLIP ViT-B/16 (attention pooling; no mask, last-token pooling; sigmoid loss)",
        Preprocessing("siglip", size, "squash", mean=INCEPTION_MEAN, std=INCEPTION_STD),
        Text("siglip", 64, 1), model, logit_scale=10.0, logit_bias=-1.0,
    )


class _Dual(torch.nn.Module):
    """Any image and text tower side by side, with open_clip's two methods."""

    def __init__(self, visual: torch.nn.Module, text: torch.nn.Module):
        super().__init__()
        self.visual, self.text = visual, text

    def encode_image(self, pixels, normalize=False):
        features = self.visual(pixels)
        return torch.nn.functional.normalize(features, dim=-1) if normalize else features

    def encode_text(self, ids, normalize=False):
        features = self.text(ids)
        return torch.nn.functional.normalize(features, dim=-1) if normalize else features


def _bert_model(mini: bool, vocabulary: int, size: int, context_length: int) -> torch.nn.Module:
    if mini:
        width, bert = 32, dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192)
        vision = dict(image_size=size, layers=1, width=32, patch_size=16, head_width=16)
    else:
        width, bert = 384, dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        vision = dict(image_size=size, layers=12, width=384, patch_size=32, head_width=64)
    positions = context_length if mini else 512
    config = BertConfig(vocab_size=vocabulary, max_position_embeddings=positions, pad_token_id=0,
                        attn_implementation="eager", **bert)
    text = HFTextEncoder("bert", width, config=config, pooler_type="mean_pooler", proj_type="linear", pretrained=False)
    from open_clip.model import _build_vision_tower
    visual = _build_vision_tower(width, vision)
    return _Dual(visual, text)


def _bert(mini: bool, vocabulary: int) -> Architecture:
    size, context_length = (32, 32) if mini else (224, 64)
    return Architecture(
        "bert", "BERT text tower of MiniLM's shape, mean pooling, mask inside the graph; ViT-S/32 image tower",
        Preprocessing("openai-clip", size), Text("bert", context_length, 0),
        _bert_model(mini, vocabulary, size, context_length), logit_scale=20.0,
    )


def _bertmask(mini: bool, vocabulary: int) -> Architecture:
    size, context_length = (32, 32) if mini else (224, 64)
    return Architecture(
        "bertmask", "the same BERT as Optimum exports it: three inputs, batch and length symbolic; ViT-S/32, symbolic "
        "batch",
        Preprocessing("imagenet", size, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD,
                      resize_size=size * 256 // 224),
        Text("bert", context_length, 0, attention_mask=True, dynamic=True),
        _bert_model(mini, vocabulary, size, context_length), logit_scale=20.0,
    )


BUILDERS = {
    "vitb32": _clip, "tinyclip": _tinyclip, "mobileclip2s0": _mobileclip,
    "siglipb16": _siglip, "bert": _bert, "bertmask": _bertmask,
}
VOCABULARY = {"clip": 49408, "siglip": 32000, "bert": 30522}
TOKENIZER = {"vitb32": "clip", "tinyclip": "clip", "mobileclip2s0": "clip", "siglipb16": "siglip",
             "bert": "bert", "bertmask": "bert"}


def build(name: str, mini: bool = False, vocabulary: int | None = None) -> Architecture:
    """The named architecture with perturbed random weights, in evaluation mode."""
    torch.manual_seed(SEED)
    vocabulary = vocabulary or VOCABULARY[TOKENIZER[name]]
    architecture = BUILDERS[name](mini, vocabulary)
    model = architecture.model.eval()
    perturb(model)
    enliven(model, _statistics_inputs(architecture.preprocessing), image_gain=10.0, text_gain=8.0,
            centring=0.9 if mini else 0.5)
    with torch.no_grad():
        if hasattr(model, "logit_scale"):
            model.logit_scale.fill_(math.log(architecture.logit_scale))
        if getattr(model, "logit_bias", None) is not None:
            model.logit_bias.fill_(architecture.logit_bias)
    return architecture


class ImageTower(torch.nn.Module):
    """`pixel_values` [1, 3, size, size] to a unit vector."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.encode_image(pixel_values, normalize=True)


class TextTower(torch.nn.Module):
    """`input_ids` [1, context_length] to a unit vector."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model.encode_text(input_ids, normalize=True)


class MaskedTextTower(torch.nn.Module):
    """The three inputs that exporters of transformers models (Optimum, sentence-transformers) give a BERT.

    A mask of four dimensions is added to the attention logits as it is: exports by transformers 4 look
    so. `TextTower` over `HFTextEncoder` leaves the mask to transformers 5, whose graph is longer.
    """

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.bert, self.proj = model.text.transformer, model.text.proj

    def forward(self, input_ids, attention_mask, token_type_ids):
        weight = attention_mask.to(torch.float32)
        forbidden = (1.0 - weight[:, None, None, :]) * torch.finfo(torch.float32).min
        hidden = self.bert(
            input_ids=input_ids, attention_mask=forbidden, token_type_ids=token_type_ids,
        ).last_hidden_state
        pooled = (hidden * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True).clamp(min=1e-9)
        return torch.nn.functional.normalize(self.proj(pooled), dim=-1)


def text_tower(architecture: Architecture) -> torch.nn.Module:
    """The module whose ONNX export is the text tower."""
    tower = MaskedTextTower if architecture.text.attention_mask else TextTower
    # A wrapper starts in training mode, and the exporter puts the modules under it back into that mode.
    return tower(architecture.model).eval()


def image_tower(architecture: Architecture) -> torch.nn.Module:
    """The module whose ONNX export is the image tower."""
    return ImageTower(architecture.model).eval()
