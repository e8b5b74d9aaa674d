"""Tiny models of the real shapes, made from a seed: a Qwen3 chat model, a bge-m3 embedder, a reranker.

The real programs (vLLM, FlagEmbedding) load them like any other. They know nothing: the chat model's weights
are random, so it talks nonsense; what the other two measure is written down in ``encoders``. The same seed
gives the same bytes on every machine.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram

from tests.sources import encoders
from tests.sources.sentences import SENTENCES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.float32]]

CHAT_CONTEXT = 8192
_HIDDEN, _LAYERS, _HEADS, _KV_HEADS, _HEAD_DIM, _INNER = 64, 2, 2, 1, 32, 128
_VOCABULARY = 1024
_END, _START, _STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SPECIALS = [_END, _START, _STOP]  # the first numbers of the vocabulary
#: ChatML, as Qwen3 has it, without tools and thinking.
_CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def write_chat_model(folder: Path, seed: str) -> Path:
    """Write a Qwen3 of two layers with random weights, and a byte-level tokenizer that keeps every text."""
    tokenizer = _chat_tokenizer()
    end, stop = (_SPECIALS.index(token) for token in (_END, _STOP))
    _write(
        folder,
        {
            "config.json": _chat_config(stop),
            "generation_config.json": {
                "do_sample": True,
                "temperature": 0.7,
                "eos_token_id": [stop, end],
                "pad_token_id": end,
            },
            "tokenizer_config.json": _chat_tokenizer_config(),
        },
    )
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), "utf-8")
    (folder / "model.safetensors").write_bytes(save(dict(_chat_weights(seed)), {"format": "pt"}))
    return folder


def write_embedding_model(folder: Path, seed: str) -> Path:
    """Write a bge-m3-shaped encoder without sparse and ColBERT heads: its vectors count shared syllables."""
    return _write_encoder(folder, "XLMRobertaModel", encoders.embedding_weights(seed))


def write_reranker(folder: Path, seed: str) -> Path:
    """Write a bge-reranker-shaped cross-encoder: its score is how much of the question the passage has."""
    return _write_encoder(folder, "XLMRobertaForSequenceClassification", encoders.reranker_weights(seed))


#: What the demo's hub serves, by repository; ``demo-chat`` gets its second commit at the upgrade.
WRITERS: Mapping[str, Callable[[Path, str], Path]] = {
    "demo-chat": write_chat_model,
    "demo-embed": write_embedding_model,
    "demo-rerank": write_reranker,
}


def random_values(seed: str, *shape: int, spread: float) -> NDArray[np.float32]:
    """Return uniform numbers in [-spread, spread), from Python's own generator: its stream never changes."""
    count = int(np.prod(shape))
    numbers = random.Random(seed).randbytes(4 * count)  # noqa: S311 - the same bytes everywhere is the point
    whole = np.frombuffer(numbers, "<u4").astype(np.float64) / 2**32
    return ((whole * 2 - 1) * spread).astype(np.float32).reshape(shape)


# --- Chat -------------------------------------------------------------------------------------------------


def _chat_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=_SPECIALS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _chat_config(stop: int) -> dict[str, object]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "float32",
        "eos_token_id": stop,
        "head_dim": _HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": _HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": _INNER,
        "max_position_embeddings": CHAT_CONTEXT,
        "max_window_layers": _LAYERS,
        "model_type": "qwen3",
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": _KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": _VOCABULARY,
    }


def _chat_tokenizer_config() -> dict[str, object]:
    return {
        "add_prefix_space": False,
        "bos_token": None,
        "chat_template": _CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": _STOP,
        "model_max_length": CHAT_CONTEXT,
        "pad_token": _END,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _chat_weights(seed: str) -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (_VOCABULARY, _HIDDEN),
        "lm_head": (_VOCABULARY, _HIDDEN),
        "model.norm": (_HIDDEN,),
    }
    for layer in range(_LAYERS):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in _chat_layer().items()}
    return {f"{name}.weight": _chat_tensor(seed, name, shape) for name, shape in shapes.items()}


def _chat_layer() -> dict[str, tuple[int, ...]]:
    return {
        "input_layernorm": (_HIDDEN,),
        "post_attention_layernorm": (_HIDDEN,),
        "self_attn.q_norm": (_HEAD_DIM,),
        "self_attn.k_norm": (_HEAD_DIM,),
        "self_attn.q_proj": (_HEADS * _HEAD_DIM, _HIDDEN),
        "self_attn.k_proj": (_KV_HEADS * _HEAD_DIM, _HIDDEN),
        "self_attn.v_proj": (_KV_HEADS * _HEAD_DIM, _HIDDEN),
        "self_attn.o_proj": (_HIDDEN, _HEADS * _HEAD_DIM),
        "mlp.gate_proj": (_INNER, _HIDDEN),
        "mlp.up_proj": (_INNER, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _INNER),
    }


def _chat_tensor(seed: str, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) == 1:  # a norm's scale
        return np.ones(shape, np.float32)
    return random_values(f"{seed}/{name}", *shape, spread=0.1)


# --- Encoders ---------------------------------------------------------------------------------------------


def _write_encoder(folder: Path, architecture: str, weights: Tensors) -> Path:
    _write(
        folder,
        {
            "config.json": _encoder_config(architecture, weights),
            "tokenizer_config.json": _encoder_tokenizer_config(),
            "special_tokens_map.json": _SPECIAL_TOKENS,
        },
    )
    (folder / "tokenizer.json").write_text(_encoder_tokenizer().to_str(pretty=False), "utf-8")
    (folder / "model.safetensors").write_bytes(save(dict(weights), {"format": "pt"}))
    return folder


def _encoder_config(architecture: str, weights: Tensors) -> dict[str, object]:
    found: dict[str, object] = {
        "architectures": [architecture],
        "attention_probs_dropout_prob": 0.0,
        "bos_token_id": 0,
        "classifier_dropout": None,
        "dtype": "float32",
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": encoders.HIDDEN,
        "intermediate_size": encoders.INNER,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": encoders.POSITIONS,
        "model_type": "xlm-roberta",
        "num_attention_heads": encoders.HEADS,
        "num_hidden_layers": sum(name.endswith("intermediate.dense.bias") for name in weights),
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "vocab_size": len(encoders.PIECES),
    }
    if architecture.endswith("SequenceClassification"):
        found |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return found


_SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}


def _encoder_tokenizer_config() -> dict[str, object]:
    longest = encoders.POSITIONS - 2
    return {**_SPECIAL_TOKENS, "model_max_length": longest, "tokenizer_class": "XLMRobertaTokenizer"}


def _encoder_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(Unigram(list(encoders.pieces_with_scores()), unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([*encoders.SPECIALS, "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


def _write(folder: Path, files: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")
