"""Loading models from folders onto devices, each once, and the errors where that fails."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import torch
import transformers

from bon.errors import InputError, ModelError
from bon.messages import say
from bon.models import checkpoint, devices, download, packed_linear, presets
from bon.models.builtin.base import BuiltInModel
from bon.models.builtin.loader import built_in_class
from bon.models.builtin.loader import load as load_built_in
from bon.models.cache import LiveCache
from bon.models.files import adapters
from bon.models.files.gguf_header import read_header
from bon.models.files.gguf_names import is_gguf
from bon.models.files.memory import check_room
from bon.models.library_warnings import Quiet
from bon.models.limits import context_length, vocabulary
from bon.models.number_types import int8_check, int8_products, processor, table
from bon.models.running import FACTS, joined_layers, loaded_by_bon
from bon.settings import parse_digits

if TYPE_CHECKING:  # classes of models take a second to import: see `bon.models.builtin`
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def _cache_limit() -> int:
    limit = os.environ.get("BON_CACHE", "4")
    if not (limit.isascii() and limit.isdecimal() and parse_digits(limit)):
        raise InputError("BON_CACHE", say("error.cache_limit", value=repr(limit)))
    return parse_digits(limit)


#: A model with its tokenizer, and the name of the class of transformers that loads it.
Loaded: TypeAlias = "tuple[PreTrainedModel, PreTrainedTokenizerBase]"
AutoModel: TypeAlias = Literal["AutoModelForCausalLM", "AutoModelForSequenceClassification"]

#: What is loaded, by the class's name, place, device, number type and, for an adapter in a folder, the version of its
#: files; scorers of other types by theirs and the place.
LIVE: LiveCache[tuple[str | None, ...], Any] = LiveCache(_cache_limit())
TORCH_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
#: transformers patches torch while it loads: two loads at once find each other's weights missing.
_ONE_AT_A_TIME = threading.Lock()
quiet: Quiet = Quiet()
#: Pickled weights only through weights_only loading, transformers' default; no code from a repository ever.
SAFELY = {"trust_remote_code": False, "local_files_only": True}
CAUSAL: AutoModel = "AutoModelForCausalLM"
CLASSIFIER: AutoModel = "AutoModelForSequenceClassification"
#: For each class: transformers' name for the architectures that it loads, and what to call such a model.
ARCHITECTURES = {
    CAUSAL: ("MODEL_FOR_CAUSAL_LM_MAPPING", say("error.model_kind.causal")),
    CLASSIFIER: ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", say("error.model_kind.classifier")),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of a loaded model: its parameters, the type of the numbers that it multiplies, and notes on its loading.

    Of one with an adapter, base is the name of the model without it, and adapter the digest of the adapter's files.
    """

    parameters: int
    dtype: str
    notes: tuple[str, ...] = ()
    base: str = ""
    adapter: str = ""


def facts(model: PreTrainedModel) -> Facts:
    """The facts of a model, whoever loaded it."""
    dtype = str(model.dtype).removeprefix("torch.")
    return getattr(model, FACTS, None) or Facts(model.num_parameters(), devices.DTYPES.get(dtype, dtype))


def notes(model: PreTrainedModel) -> tuple[str, ...]:
    """What the reader of a result should know of how bon loaded the model."""
    return facts(model).notes if loaded_by_bon(model) else ()


def name_with_base(name: str, model: PreTrainedModel) -> str:
    """The name of a model, with that of the model which it changes where it is an adapter."""
    base = facts(model).base
    return f"{name} + {base}" if base else name


def causal(place: str, device: str | None = None, dtype: str | None = None) -> Loaded:
    """A causal language model in eval mode with its tokenizer, from a folder or the Hub, which may hold an adapter.

    Raises `ModelError` where it is absent, out of reach or of another kind.
    """
    return _live(CAUSAL, place, device, devices.named_dtype(dtype))


def classifier(place: str, device: str | None = None, dtype: str | None = None) -> Loaded:
    """A text-classification model in eval mode with its tokenizer, from a folder or the Hub."""
    dtype = devices.named_dtype(dtype)
    if dtype == "int8" and processor.has_tiles():
        dtype = "bf16"  # a classifier reads many rows at a time, for which int8 and rounding its inputs are no faster
    return _live(CLASSIFIER, place, device, dtype)


def _live(auto_model: AutoModel, place: str, device: str | None, dtype: str | None) -> Loaded:
    device = devices.choose_device(device)
    if dtype == "int8" and device != "cpu":
        raise InputError("dtype", say("error.no_int8", device=device))
    key = auto_model, place, device, dtype, *filter(None, [adapters.version(place)])
    return LIVE.get(key, lambda: _load(auto_model, place, device, dtype))


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ran out."""
    # The CPU allocator raises a plain RuntimeError, which only its text tells from others.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _load(auto_model: AutoModel, place: str, device: str, dtype: str | None) -> Loaded:
    """The model on its device with its facts, and its tokenizer. Raises `ModelError` where it cannot be loaded."""
    with quiet as warnings:
        path = download.local_path(place)
        of_adapter: dict[str, Any] = {}
        try:
            if auto_model == CAUSAL and not is_gguf(path) and presets.is_adapter(presets.present(path)):
                model, tokenizer, of_adapter = _with_adapter(path, place)
            elif built_in := built_in_class(path, auto_model):
                checkpoint.check_files(path, place)
                model, tokenizer = cast(Loaded, load_built_in(built_in, path))
            else:
                with _ONE_AT_A_TIME:
                    model, tokenizer = _from_path(auto_model, path, place)
            if auto_model == CAUSAL:  # tried in float32, which rounds least, and before it is on a GPU
                if not isinstance(model, BuiltInModel) and reads_ahead(model):
                    raise ModelError(say("error.reads_ahead", model=place))
                context_length(model)
            files = [path, *filter(None, [of_adapter.pop("base_path", None)])]
            model = _placed(auto_model, model, device, dtype, tokenizer, files)
        except ModelError:
            raise
        except Exception as error:  # each library raises its own errors; the user needs one sentence
            raise ModelError(_why_unreadable(place, device, error, warnings)) from error
        doubts = checkpoint.doubts(warnings, tokenizer, place)
        of_model = facts(model)
        all_notes = (*of_model.notes, *of_adapter.pop("notes", ()), *doubts)
        setattr(model, FACTS, replace(of_model, notes=all_notes, **of_adapter))
    return model, tokenizer


def _with_adapter(folder: str, place: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """A model of its own with a LoRA adapter merged into its weights, in float32 on the processor; values of its facts.

    The adapter's tokenizer is preferred to the model's, since training may have added tokens or a chat template. Raises
    `ModelError`.
    """
    adapter = adapters.read_adapter(folder, place)
    adapters.check_adapter(adapter)
    if missing := checkpoint.not_installed(["peft"]):
        raise ModelError(say("error.adapter_needs_package", model=place, package=" ".join(missing)))
    from bon.models.files import adapter_loader

    checkpoint.check_no_pointer(adapters.weights_path(folder) or "", place)
    weights = adapter_loader.read_weights(adapter)
    base = presets.base_place(folder, place)
    try:
        path = download.local_path(base)
        with _ONE_AT_A_TIME:
            model, tokenizer = _from_path(CAUSAL, path, base)
    except ModelError as error:
        raise ModelError(say("error.adapter_base", model=place, base=adapter.base, error=error.message)) from error
    if getattr(model, "is_quantized", False):
        raise ModelError(say("error.adapter_base_quantised", model=place, base=adapter.base))
    with _ONE_AT_A_TIME:
        model = adapter_loader.merged(model, adapter, weights)
    files = presets.present(folder)
    if "tokenizer_config.json" in files and any(map(presets.TOKENIZERS.fullmatch, files)):
        tokenizer = _tokenizer(folder, place)
    notes = []
    if unknown := adapter_loader.unknown_options(adapter):
        version = adapter_loader.peft_version()
        notes.append(say("note.adapter_options", model=place, version=version, names=", ".join(unknown)))
    if adapter.revision not in ("", "main"):
        notes.append(say("note.adapter_revision", model=place, base=adapter.base, revision=adapter.revision))
    name = os.path.basename(base) if os.path.isabs(base) else base
    digest = adapters.content_digest(folder)
    return model, tokenizer, {"notes": notes, "base": name, "base_path": path, "adapter": digest}


def _placed(auto_model: AutoModel, model: PreTrainedModel, device: str, dtype: str | None,
            tokenizer: PreTrainedTokenizerBase | None = None, files: Sequence[str] = ()) -> PreTrainedModel:
    """The model on its device in its number type, with its weights in the layout that the processor reads fastest.

    tokenizer: by which it reads texts before it is rounded. files: its file or folder, and that of a base.
    """
    if getattr(model, "is_quantized", False):  # in another type its weights would be taken for plain numbers
        return model.eval().to(device)
    parameters, classifies = model.num_parameters(), auto_model == CLASSIFIER
    chosen = devices.choose_dtype(dtype, device, parameters, classifies)
    notes: tuple[str, ...] = ()
    model.eval()
    if chosen == "int8":
        chosen, notes = _rounded(model, tokenizer, files, classifies, checks=dtype is None)
    half = chosen == "float16" and device == "cpu" and packed_linear.can_halve()
    if chosen == "float16" and device == "cpu" and not half and dtype != "float16":  # nobody asked for slow products
        chosen = "float32"
    if chosen != "int8":
        model = model.eval().to(device, torch.float32 if half else TORCH_DTYPES[chosen])
        packs = device == "cpu" and (half or packed_linear.can_pack(model.dtype))
        if packs and not packed_linear.pack(model, joined=joined_layers(model), half=half) and half:
            chosen = "float32"
    setattr(model, FACTS, Facts(parameters, chosen, notes))
    return model


def _rounded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, files: Sequence[str],
             classifies: bool, checks: bool) -> tuple[str, tuple[str, ...]]:
    """Rounds a model's layers to int8; returns the number type that it is to have, and notes where that is another.

    checks: whether a model stays as it is that int8 would change too much. files: as in `_placed`.
    """
    # A classifier reads many rows at a time, and attention among them is faster in bf16; for a generator's few rows at
    # each step, layers that stay in float32 need no conversions.
    unrounded = "bf16" if classifies and devices.native_bf16("cpu") else "float32"
    otherwise = table.this_kind().differing if model.num_parameters() >= table.SMALL else unrounded
    if int8_products.kernel() is None:
        return otherwise, (say("note.int8_missing", dtype=otherwise),)
    if not checks:
        model.eval().to(TORCH_DTYPES[unrounded])
        return "int8" if int8_check.round_layers(model, tokenizer) else otherwise, ()
    if tokenizer is None:
        return otherwise, ()
    kl = int8_check.recall(files)
    if kl is not None:
        is_near = kl <= int8_check.MOST_KL and int8_check.round_layers(model, tokenizer)
    else:
        is_near, kl = int8_check.round_if_near(model, tokenizer)
        if kl is not None:
            int8_check.remember(files, kl)
    if is_near or kl is None or kl <= int8_check.MOST_KL:
        return "int8" if is_near else otherwise, ()
    note = say("note.int8_differs", dtype=otherwise, kl=f"{kl:.3f}", most=str(int8_check.MOST_KL))
    return otherwise, (note,)


def _from_path(auto_model: AutoModel, path: str, place: str) -> Loaded:
    """The model in float32 on the processor, from a folder or a GGUF file. Raises `ModelError`."""
    return (_from_gguf if is_gguf(path) else _from_folder)(auto_model, path, place)


def _from_folder(auto_model: AutoModel, folder: str, place: str) -> Loaded:
    """The model in float32 on the processor, with all its weights from the files. Raises `ModelError`."""
    checkpoint.check_files(folder, place)
    config = transformers.AutoConfig.from_pretrained(folder, **SAFELY)
    _check_architecture(auto_model, config, place)
    tokenizer = _tokenizer(folder, place)
    method = checkpoint.check_quantization(folder, config, place)
    try:
        model = _model(auto_model, folder, config, place)
    except Exception as error:  # a package that is not installed, a device that the method does not support
        if method is None or out_of_memory(error) or isinstance(error, ModelError):
            raise
        reason = checkpoint.in_one_line(error)
        raise ModelError(say("error.quantization_unreadable", model=place, method=method, error=reason)) from error
    checkpoint.check_vocabulary_files(tokenizer, folder, place)
    checkpoint.check_vocabulary_size(model, tokenizer, place)
    return model, tokenizer


def _from_gguf(auto_model: AutoModel, path: str, place: str) -> Loaded:
    """The model in float32 on the processor, with all its weights from a GGUF file. Raises `ModelError`."""
    if auto_model != CAUSAL:
        raise ModelError(say("error.gguf_scorer", model=place))
    if missing := checkpoint.not_installed(["gguf", "accelerate"]):
        raise ModelError(say("error.gguf_needs_packages", model=place, packages=" ".join(missing)))
    from bon.models.files.gguf_loader import once_and_quiet

    checkpoint.check_no_pointer(path, place)
    header = read_header(path, place)
    check_room(header.loading_bytes, place)
    # In an empty folder, since transformers would prefer the tokenizer and the templates in files beside the GGUF.
    with tempfile.TemporaryDirectory() as folder, once_and_quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(folder, gguf_file=path, **SAFELY)
        except ValueError as error:
            if "architecture" not in str(error):
                raise
            raise ModelError(say("error.gguf_architecture", model=place, name=header.architecture)) from error
        _check_architecture(auto_model, config, place)
        checkpoint.check_quantization(folder, config, place)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=path, **SAFELY)
        model = _model(auto_model, folder, config, place, gguf_file=path)
    if quantizer := getattr(model, "hf_quantizer", None):
        quantizer.remove_quantization_config(model)  # its weights are plain numbers now
    checkpoint.check_vocabulary_size(model, tokenizer, place)
    return model, tokenizer


def _model(auto_model: AutoModel, folder: str, config: PreTrainedConfig, place: str, **options: str) -> PreTrainedModel:
    """The model with all its weights. Raises `ModelError` where the files have others."""
    # Loading in another type would change torch's default type for all threads meanwhile.
    loaded: Any = getattr(transformers, auto_model).from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
        **SAFELY, **options,
    )
    model, report = loaded
    checkpoint.check_report(model, report, place, ARCHITECTURES[auto_model][1])
    return model


def _tokenizer(folder: str, place: str) -> PreTrainedTokenizerBase:
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, **SAFELY)
    except Exception as error:
        if "custom code" in str(error):
            raise
        raise ModelError(checkpoint.why_no_tokenizer(folder, place, error)) from error


@torch.inference_mode()
def reads_ahead(model: PreTrainedModel) -> bool:
    """Whether a model's logits at one position depend on the tokens behind it, as those of encoders do.

    Not where the model returns a KV cache: then only a prompt can be read so, and continuing it is sound. The model
    must be in eval mode.
    """
    size = vocabulary(model)
    if size is None:
        return False
    try:
        rows = torch.tensor([[token % size for token in (3, 5, 7, last)] for last in (11, 13)], device=model.device)
        out = model(input_ids=rows, attention_mask=torch.ones_like(rows))
        first, second = (logits - logits.mean(-1, keepdim=True) for logits in out.logits[:, :-1].float())
        exact = next(model.parameters()).dtype == torch.float32
    except Exception:  # the model's own code may want more than tokens, or more memory than there is
        return False
    cached = getattr(out, "cache", None) or getattr(out, "past_key_values", None)
    # More than rounding explains; with encoders it is 1e-3 at least where the weights are random.
    return not cached and bool((first - second).norm() > (2.5e-4 if exact else 0.05) * first.norm())


def _check_architecture(auto_model: AutoModel, config: PreTrainedConfig, place: str) -> None:
    if auto_model == CAUSAL and getattr(config, "is_encoder_decoder", False):
        raise ModelError(say("error.sequence_to_sequence", model=place))
    architectures, task = ARCHITECTURES[auto_model]
    if type(config) not in getattr(transformers, architectures):
        raise ModelError(say("error.model_kind", model=place, type=config.model_type, kind=task))


def _why_unreadable(place: str, device: str, error: Exception, warnings: list[str]) -> str:
    if out_of_memory(error) or isinstance(error, MemoryError):
        return say("error.model_too_large", model=place, device=device)
    if any(isinstance(e, pickle.UnpicklingError) for e in download.error_chain(error)):
        return say("error.weights_pickled", model=place)
    if "custom code" in str(error):
        return say("error.model_has_code", model=place)
    if "above report" in str(error) and (reason := checkpoint.why_not_converted(warnings)):
        return say("error.weights_do_not_fit", model=place, **reason)
    return say("error.model_unreadable", model=place, error=checkpoint.in_one_line(error))
