"""Which models an `Encoder` serves: those that bon loaded itself and of which it knows every part, after a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from bon.engines.local.runner import choice
from bon.engines.local.runner.designs import ACTIVATIONS, product_of
from bon.models import loading
from bon.models.builtin.base import BuiltInModel
from bon.models.limits import context_length, vocabulary
from bon.models.running import eval_mode, loaded_by_bon
from bon.scorers.encoders.encoder import Block, Design, Encoder, activated

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedModel

#: Fields of configs that change no logit, or that an encoder reads from the model's parts.
KNOWN = frozenset({
    "_name_or_path", "architectures", "attention_dropout", "attention_probs_dropout_prob", "bos_token_id",
    "chunk_size_feed_forward", "classifier_dropout", "dim", "dropout", "dtype", "eos_token_id", "hidden_dim",
    "hidden_dropout_prob", "hidden_size", "id2label", "initializer_range", "intermediate_size", "label2id",
    "layer_norm_eps", "max_position_embeddings", "model_type", "n_heads", "n_layers", "num_attention_heads",
    "num_hidden_layers", "output_attentions", "output_hidden_states", "pad_token_id", "problem_type", "qa_dropout",
    "return_dict", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_word_embeddings",
    "transformers_version", "type_vocab_size", "use_cache", "vocab_size",
})
#: Fields that an encoder does not follow, unless they have this value.
KNOWN_IF = {
    "add_cross_attention": False, "is_decoder": False, "is_encoder_decoder": False,
    "position_embedding_type": "absolute",
}
#: How far the rounding of a number type may move logits in the trial, relative to them.
ERROR = {"float32": 1e-4, "bf16": 0.05, "float16": 0.01, "int8": 0.05}
#: Lengths of the texts of the trial, in tokens: one long enough for `encoder.LONG`.
TRIAL_LENGTHS = (5, 1, 140, 5)


def _distilbert(model: Any) -> Encoder:
    body = model.distilbert
    blocks = [
        Block(product_of(block.attention.q_lin), product_of(block.attention.k_lin), product_of(block.attention.v_lin),
              product_of(block.attention.out_lin), block.sa_layer_norm,
              activated(block.ffn.lin1, model.config.activation), product_of(block.ffn.lin2), block.output_layer_norm)
        for block in body.transformer.layer
    ]
    before, last = product_of(model.pre_classifier), product_of(model.classifier)
    return Encoder(body.embeddings, None, blocks, model.config.n_heads, lambda x: last(relu(before(x))))


def _bert_blocks(body: Any, activation: str) -> list[Block]:
    return [
        Block(product_of(block.attention.self.query), product_of(block.attention.self.key),
              product_of(block.attention.self.value), product_of(block.attention.output.dense),
              block.attention.output.LayerNorm, activated(block.intermediate.dense, activation),
              product_of(block.output.dense), block.output.LayerNorm)
        for block in body.encoder.layer
    ]


def _bert(model: Any) -> Encoder:
    body, config = model.bert, model.config
    before, last = product_of(body.pooler.dense), product_of(model.classifier)
    return Encoder(body.embeddings, None, _bert_blocks(body, config.hidden_act), config.num_attention_heads,
                   lambda x: last(before(x).tanh()))


def _roberta(model: Any) -> Encoder:
    body, config = model.roberta, model.config
    before, last = product_of(model.classifier.dense), product_of(model.classifier.out_proj)
    return Encoder(body.embeddings, body.embeddings.padding_idx, _bert_blocks(body, config.hidden_act),
                   config.num_attention_heads, lambda x: last(before(x).tanh()))


#: The design of each class of models, by its module and name: none is imported for this alone.
DESIGNS: dict[tuple[str, str], Design] = {
    ("bon.models.builtin.distilbert", "DistilBert"): _distilbert,
    ("transformers.models.distilbert.modeling_distilbert", "DistilBertForSequenceClassification"): _distilbert,
    ("transformers.models.bert.modeling_bert", "BertForSequenceClassification"): _bert,
    ("transformers.models.roberta.modeling_roberta", "RobertaForSequenceClassification"): _roberta,
}


class _Tried(NamedTuple):
    """The modules of a model, itself left out, at its trial, and its encoder where it passed."""

    modules: list[nn.Module]
    encoder: Encoder | None


_TRIED: WeakKeyDictionary[PreTrainedModel, _Tried] = WeakKeyDictionary()


def encoder_of(model: PreTrainedModel) -> Encoder | None:
    """An encoder that gives the model's own logits; None where there is none.

    It is compared with the model once, and again after one of the model's modules was replaced; those of the built-in
    models are compared by tests.
    """
    if not _understood(model):
        return None
    _, *modules = model.modules()
    tried = _TRIED.get(model)
    if tried is None or tried.modules != modules:
        encoder = DESIGNS[_class_of(model)](model)
        passes = isinstance(model, BuiltInModel) or _agrees(model, encoder)
        _TRIED[model] = tried = _Tried(modules, encoder if passes else None)
    return tried.encoder


def _class_of(model: PreTrainedModel) -> tuple[str, str]:
    return type(model).__module__, type(model).__qualname__


def _understood(model: PreTrainedModel) -> bool:
    """Whether bon loaded the model and nothing in it is unknown here; hooks may come at any time."""
    if not loaded_by_bon(model) or _class_of(model) not in DESIGNS or model.training:
        return False
    fields = model.config.to_dict()
    return (
        choice.modules_are_known(model, nn.Tanh)
        and (fields.get("activation") or fields.get("hidden_act")) in ACTIVATIONS
        and all(name in KNOWN or name in ("activation", "hidden_act") or KNOWN_IF.get(name, ...) == value
                for name, value in fields.items())
    )


@torch.inference_mode()
def _agrees(model: PreTrainedModel, encoder: Encoder) -> bool:
    """Whether the encoder gives a few texts together the logits that the model gives each alone."""
    size, most = vocabulary(model) or 1, context_length(model) or max(TRIAL_LENGTHS)
    texts = [[(3 + 7 * seed + 5 * i) % size for i in range(min(length, most))]
             for seed, length in enumerate(TRIAL_LENGTHS)]
    try:
        with eval_mode(model):
            expected = torch.cat([_own_logits(model, text) for text in texts])
        return bool((encoder.logits(texts) - expected).norm() <= ERROR[loading.facts(model).dtype] * expected.norm())
    except Exception as error:  # the model's own code may refuse these tokens
        if loading.out_of_memory(error):
            raise
        return False


def _own_logits(model: PreTrainedModel, text: list[int]) -> Tensor:
    ids = torch.tensor([text], device=model.device)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float().cpu()
