"""Weights from a folder onto a device, and what to say when that fails.

Every other module gets its models here, so nothing is loaded twice.
"""

import os
import pickle
import threading
from dataclasses import dataclass, replace

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bon.errors import InputError, ModelError
from bon.messages import say
from bon.models import checkpoint, devices, download, packed_linear
from bon.models.cache import LiveCache
from bon.models.library_warnings import Quiet
from bon.models.limits import context_length, vocabulary


def _limit() -> int:
    limit = os.environ.get("BON_CACHE", "4")
    if not (limit.isascii() and limit.isdecimal() and int(limit)):
        raise InputError("BON_CACHE", say("error.cache_limit", value=repr(limit)))
    return int(limit)


#: Models and their tokenizers, by kind, place, device and number type.
LIVE = LiveCache(_limit())
TORCH_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
#: transformers exchanges parts of torch while it loads: two loads at once find each other's weights missing.
_ONE_AT_A_TIME = threading.Lock()
_quiet = Quiet()
#: For each kind of model: the architectures that can be it, and what to call it.
KINDS = {
    AutoModelForCausalLM: (transformers.MODEL_FOR_CAUSAL_LM_MAPPING, say("error.model_kind.causal")),
    AutoModelForSequenceClassification: (
        transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, say("error.model_kind.classifier"),
    ),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a loaded model: its parameters, the type of the numbers it multiplies, notes on reading it."""

    parameters: int
    dtype: str
    notes: tuple[str, ...] = ()


def facts(model) -> Facts:
    """The facts of a model, whoever loaded it."""
    dtype = str(model.dtype).removeprefix("torch.")
    return getattr(model, "bon_facts", None) or Facts(model.num_parameters(), devices.DTYPES.get(dtype, dtype))


def notes(model) -> tuple[str, ...]:
    """What the reader of a result should know of how bon read the model."""
    return getattr(getattr(model, "bon_facts", None), "notes", ())


def causal(place: str, device: str | None = None, dtype: str | None = None):
    """A causal language model in eval mode with its tokenizer, from a folder or the Hub.

    Raises `ModelError` where it is absent, out of reach or of another kind.
    """
    return _live(AutoModelForCausalLM, place, device, devices.named_dtype(dtype))


def classifier(place: str, device: str | None = None, dtype: str | None = None):
    """A text-classification model in eval mode with its tokenizer, from a folder or the Hub."""
    dtype = devices.named_dtype(dtype)
    if dtype == "int8" and packed_linear.has_tiles():
        dtype = "bf16"  # it reads many rows at a time, for which int8 and the rounding of its inputs are no faster
    return _live(AutoModelForSequenceClassification, place, device, dtype)


def _live(kind, place: str, device: str | None, dtype: str | None):
    device = devices.choose_device(device)
    if dtype == "int8" and not (device == "cpu" and packed_linear.can_round()):
        raise InputError("dtype", say("error.no_int8"))
    return LIVE.get((kind.__name__, place, device, dtype), lambda: _load(kind, place, device, dtype))


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ran out."""
    # The CPU allocator raises a plain RuntimeError, known by its words alone.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _load(kind, place: str, device: str, dtype: str | None):
    with _quiet as warnings:
        folder = download.folder(place)
        try:
            with _ONE_AT_A_TIME:
                model, tokenizer = _from_folder(kind, folder, place)
            if kind is AutoModelForCausalLM:  # tried in float32, which rounds least, and before a GPU has to be there
                if reads_ahead(model):
                    raise ModelError(say("error.reads_ahead", model=place))
                context_length(model)
            model = _laid_out(kind, model, device, dtype)
        except ModelError:
            raise
        except Exception as error:  # each library raises its own; the reader needs one sentence
            raise ModelError(_why_unreadable(place, device, error, warnings)) from error
        model.bon_facts = replace(facts(model), notes=checkpoint.doubts(warnings, tokenizer, place))
    return model, tokenizer


def _laid_out(kind, model, device: str, dtype: str | None):
    """The model on its device in its number type, its weights as the processor reads them best."""
    if getattr(model, "is_quantized", False):  # in another type its weights would be taken for plain numbers
        return model.eval().to(device)
    known = Facts(model.num_parameters(), devices.choose_dtype(dtype, device, model.num_parameters()))
    rounded = known.dtype == "int8"
    # What int8 leaves alone: float32 needs no conversions at each step of a few rows; a classifier reads many at a
    # time, and attention among them is faster in bf16.
    beside = "bf16" if kind is AutoModelForSequenceClassification and devices.native_bf16(device) else "float32"
    plain = beside if rounded else known.dtype
    model = model.eval().to(device, TORCH_DTYPES[plain])
    packs = device == "cpu" and (rounded or packed_linear.can_pack(model.dtype))
    if packs and not packed_linear.pack(model, rounded) and rounded:
        known = Facts(known.parameters, plain)
    model.bon_facts = known
    return model


def _from_folder(kind, folder: str, place: str):
    checkpoint.check_files(folder, place)
    # Pickled weights only through weights_only loading, transformers' default; no code from a repository ever.
    asked = {"trust_remote_code": False, "local_files_only": True}
    config = AutoConfig.from_pretrained(folder, **asked)
    _check_kind(kind, config, place)
    tokenizer = _tokenizer(folder, place, asked)
    method = checkpoint.check_numbers(folder, config, place)
    try:
        # Loading in another type would change torch's default type for all threads meanwhile.
        model, report = kind.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **asked
        )
    except Exception as error:  # a package that is absent, a device that will not do
        if method is None or out_of_memory(error):
            raise
        reason = checkpoint.in_one_line(error)
        raise ModelError(say("error.quantization_unreadable", model=place, method=method, error=reason)) from error
    checkpoint.check_report(model, report, place, KINDS[kind][1])
    checkpoint.check_tokenizer(model, tokenizer, folder, place)
    return model, tokenizer


def _tokenizer(folder: str, place: str, asked: dict[str, bool]):
    try:
        return AutoTokenizer.from_pretrained(folder, **asked)
    except Exception as error:
        if "custom code" in str(error):
            raise
        raise ModelError(checkpoint.why_no_tokenizer(folder, place, error)) from error


@torch.inference_mode()
def reads_ahead(model) -> bool:
    """Whether what a model in eval mode says at one place depends on the tokens behind it, as it does with encoders.

    Where the model keeps a cache of what it has read, only a prompt can be read so, and continuing it is sound.
    """
    try:
        size = vocabulary(model)
        rows = torch.tensor([[token % size for token in (3, 5, 7, last)] for last in (11, 13)], device=model.device)
        out = model(input_ids=rows, attention_mask=torch.ones_like(rows))
        first, second = (logits - logits.mean(-1, keepdim=True) for logits in out.logits[:, :-1].float())
        exact = next(model.parameters()).dtype == torch.float32
    except Exception:  # the model's own code may want more than tokens, or more memory than there is
        return False
    cached = getattr(out, "cache", None) or getattr(out, "past_key_values", None)
    # What rounding may make of it. With encoders it is more: 1e-3 at least where the weights are random.
    return not cached and bool((first - second).norm() > (2.5e-4 if exact else 0.05) * first.norm())


def _check_kind(kind, config, place: str) -> None:
    if kind is AutoModelForCausalLM and getattr(config, "is_encoder_decoder", False):
        raise ModelError(say("error.sequence_to_sequence", model=place))
    architectures, called = KINDS[kind]
    if type(config) not in architectures:
        raise ModelError(say("error.model_kind", model=place, type=config.model_type, kind=called))


def _why_unreadable(place: str, device: str, error: Exception, warnings: list[str]) -> str:
    if out_of_memory(error) or isinstance(error, MemoryError):
        return say("error.model_too_large", model=place, device=device)
    if any(isinstance(e, pickle.UnpicklingError) for e in download.error_chain(error)):
        return say("error.weights_pickled", model=place)
    if "custom code" in str(error):
        return say("error.model_has_code", model=place)
    if "above report" in str(error) and (found := checkpoint.why_not_converted(warnings)):
        return say("error.weights_do_not_fit", model=place, **found)
    return say("error.model_unreadable", model=place, error=checkpoint.in_one_line(error))
