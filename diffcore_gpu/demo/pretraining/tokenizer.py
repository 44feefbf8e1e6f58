"""A CLIP tokenizer with the small vocabulary that captions of digits need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from diffcore_gpu.demo.pretraining.captions import DAMAGES, SLANTS, STROKES, caption

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

MAX_TOKENS = 24
_MERGES = 160


def make_tokenizer() -> CLIPTokenizer:
    """Byte-pair encoding learned from all captions that there are, on top of the 256 bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    texts = [caption(label, [name]) for label in range(10) for name in (*STROKES, *SLANTS, *DAMAGES)]
    texts.append(", ".join(DAMAGES))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="removed")
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learned.train_from_iterator([text.replace(",", " ,") for text in texts], trainer)
    merges = [tuple(merge) for merge in json.loads(learned.to_str())["model"]["merges"]][:_MERGES]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    for merge in merges:
        joined = "".join(merge)
        if joined not in tokens:
            tokens.append(joined)
    tokens += ["<|startoftext|>", "<|endoftext|>"]  # the end has the highest number: models look for it by that
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
