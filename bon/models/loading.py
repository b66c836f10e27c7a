"""Weights from a folder or the Hub onto a device: which device, which number type, and what to say when it fails.

Every other module gets its models here, so nothing is loaded twice.
"""

import os
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import transformers
from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bon.errors import InputError, ModelError
from bon.messages import say
from bon.models import checkpoint, packed_linear, presets
from bon.models.cache import LiveCache
from bon.models.library_warnings import Quiet


def _limit() -> int:
    limit = os.environ.get("BON_CACHE", "4")
    if not (limit.isascii() and limit.isdecimal() and int(limit)):
        raise InputError("BON_CACHE", say("error.cache_limit", value=repr(limit)))
    return int(limit)


#: Models and their tokenizers, by kind, place, device and number type.
LIVE = LiveCache(_limit())
#: Below this many parameters a model's weights fit the processor's cache, and float32 is as fast as bf16 and exact.
SMALL = 30_000_000
#: Number types by the names that people give them. int8: weights and the inputs of each product, on processors.
DTYPES = {"float32": "float32", "bf16": "bf16", "bfloat16": "bf16", "float16": "float16", "int8": "int8"}
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


def choose_device(device: str | None = None) -> str:
    """`device` as torch names it, or for None or `auto` the fastest that is present."""
    if device and device != "auto":
        return _checked_device(device)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _checked_device(device: str) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError("device", say("error.no_such_device", device=repr(device))) from error
    return device


def native_bf16(device: str) -> bool:
    """Whether the device multiplies matrices in bf16 without emulating it."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return device == "cpu" and any(getattr(torch.cpu, ask)() for ask in asks if hasattr(torch.cpu, ask))


def choose_dtype(dtype: str | None, device: str, parameters: int) -> str:
    """The number type called `dtype`, or for None or `auto` the fastest that is native to the device."""
    if named := _named_dtype(dtype):
        return named
    if device == "mps":
        return "float16"
    return "bf16" if parameters >= SMALL and native_bf16(device) else "float32"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a loaded model: its parameters, the type of the numbers it multiplies, notes on reading it."""

    parameters: int
    dtype: str
    notes: tuple[str, ...] = ()


def facts(model) -> Facts:
    """The facts of a model, whoever loaded it."""
    dtype = str(model.dtype).removeprefix("torch.")
    return getattr(model, "bon_facts", None) or Facts(model.num_parameters(), DTYPES.get(dtype, dtype))


def notes(model) -> tuple[str, ...]:
    """What the reader of a result should know of how bon read the model."""
    return getattr(getattr(model, "bon_facts", None), "notes", ())


def _named_dtype(dtype: str | None) -> str | None:
    if dtype and dtype != "auto" and dtype not in DTYPES:
        raise InputError("dtype", say("error.no_such_dtype", names=", ".join(DTYPES), value=repr(dtype)))
    return DTYPES.get(dtype)


def causal(place: str, device: str | None = None, dtype: str | None = None):
    """A causal language model in eval mode with its tokenizer, from a folder or the Hub.

    Raises `ModelError` where it is absent, out of reach or of another kind.
    """
    return _live(AutoModelForCausalLM, place, device, _named_dtype(dtype))


def classifier(place: str, device: str | None = None, dtype: str | None = None):
    """A text-classification model in eval mode with its tokenizer, from a folder or the Hub."""
    dtype = _named_dtype(dtype)
    if dtype == "int8" and packed_linear.has_tiles():
        dtype = "bf16"  # it reads many rows at a time, for which int8 and the rounding of its inputs are no faster
    return _live(AutoModelForSequenceClassification, place, device, dtype)


def _live(kind, place: str, device: str | None, dtype: str | None):
    device = choose_device(device)
    if dtype == "int8" and not (device == "cpu" and packed_linear.can_round()):
        raise InputError("dtype", say("error.no_int8"))
    return LIVE.get((kind.__name__, place, device, dtype), lambda: _load(kind, place, device, dtype))


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ran out."""
    # The CPU allocator raises a plain RuntimeError, known by its words alone.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def is_loaded(place: str) -> bool:
    """Whether a model of this folder or Hub id is ready in memory."""
    return any(key[1] == place for key in LIVE)


def _load(kind, place: str, device: str, dtype: str | None):
    with _quiet as warnings:
        folder = _folder(place)
        try:
            with _ONE_AT_A_TIME:
                model, tokenizer = _from_folder(kind, folder, place)
            if kind is AutoModelForCausalLM and reads_ahead(model):  # here in float32, where no rounding is in between
                raise ModelError(say("error.reads_ahead", model=place))
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
    known = Facts(model.num_parameters(), choose_dtype(dtype, device, model.num_parameters()))
    rounded = known.dtype == "int8"
    # What int8 leaves alone: float32 needs no conversions at each step of a few rows; a classifier reads many at a
    # time, and attention among them is faster in bf16.
    beside = "bf16" if kind is AutoModelForSequenceClassification and native_bf16(device) else "float32"
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
        size = model.get_input_embeddings().num_embeddings
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


def _folder(place: str) -> str:
    """The folder with a model's files: `place` itself, or the Hub's cache, with what was missing fetched into it.

    The Hub is asked whether there is a newer version; where it does not answer, a complete copy will do.
    """
    if os.path.isabs(place) or os.path.isdir(place):
        return presets.checked_place(place)
    patience = 3 if presets.state(place) == "here" else 10
    try:
        info = HfApi().model_info(place, timeout=patience)
    except Exception as error:
        return _copy(place, _why_unreachable(place, error), error)
    names = [file.rfilename for file in info.siblings or ()]
    files = presets.needed(names)
    if "config.json" not in files:
        raise ModelError(presets.other_format(place, names) or say("error.hub_without_weights", model=place))
    try:
        return snapshot_download(place, allow_patterns=files)
    except Exception as error:
        return _copy(place, _why_broken_off(place, error), error)


def _copy(place: str, otherwise: str, error: Exception) -> str:
    if presets.state(place) == "here":
        return str(presets.snapshot(place))
    raise ModelError(otherwise) from error


def _why_unreachable(place: str, error: Exception) -> str:
    if refused := _why_refused(place, error):
        return refused
    if presets.hub_is_off():
        return say("error.hub_off", model=place)
    if _answer(error) == 401 and get_token():
        return say("error.hub_token_invalid", model=place)
    return say("error.hub_unreachable", model=place, error=_in_short(error))


def _why_broken_off(place: str, error: Exception) -> str:
    return _why_refused(place, error) or say("error.download_broken_off", model=place, error=_in_short(error))


def _why_refused(place: str, error: Exception) -> str | None:
    # By type, not by status: a proxy's 403 says nothing about the model.
    refusal = next((e for e in _chain(error) if isinstance(e, RepositoryNotFoundError)), None)
    if refusal is None:
        return None
    with_token = ".with_token" if get_token() else ""
    if isinstance(refusal, GatedRepoError):
        return say(f"error.hub_gated{with_token}", model=place, url=f"{constants.ENDPOINT}/{place}")
    return say(f"error.hub_refused{with_token}", model=place, names=presets.names())


def _why_unreadable(place: str, device: str, error: Exception, warnings: list[str]) -> str:
    if out_of_memory(error) or isinstance(error, MemoryError):
        return say("error.model_too_large", model=place, device=device)
    if any(isinstance(e, pickle.UnpicklingError) for e in _chain(error)):
        return say("error.weights_pickled", model=place)
    if "custom code" in str(error):
        return say("error.model_has_code", model=place)
    if "above report" in str(error) and (found := checkpoint.why_not_converted(warnings)):
        return say("error.weights_do_not_fit", model=place, **found)
    return say("error.model_unreadable", model=place, error=checkpoint.in_one_line(error))


def _in_short(error: Exception) -> str:
    answer = _answer(error)
    return say("error.hub_status", status=str(answer)) if answer else checkpoint.in_one_line(error)


def _answer(error: Exception) -> int | None:
    """The status of the Hub's answer that an error comes from."""
    return next((e.response.status_code for e in _chain(error) if isinstance(e, HfHubHTTPError)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
