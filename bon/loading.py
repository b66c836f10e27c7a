"""Weights from a folder or the Hub onto a device: which device, which number type, and what to say when it fails.

Every other module gets its models here, so nothing is loaded twice.
"""

import logging
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import transformers
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bon import models, packing
from bon.cache import LiveCache
from bon.errors import InputError, ModelError


def _limit() -> int:
    said = os.environ.get("BON_CACHE", "4")
    if not (said.isascii() and said.isdecimal() and int(said)):
        raise InputError("BON_CACHE", f"BON_CACHE is the number of models that stay loaded, at least 1, not {said!r}.")
    return int(said)


#: Models and their tokenizers, by kind, place, device and number type.
LIVE = LiveCache(_limit())
#: Below this many parameters a model's weights fit the processor's cache, and float32 is as fast as bf16 and exact.
SMALL = 30_000_000
#: Number types by the names that people give them. int8: weights and the inputs of each product, on processors.
DTYPES = {"float32": "float32", "bf16": "bf16", "bfloat16": "bf16", "float16": "float16", "int8": "int8"}
TORCH_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
#: transformers exchanges parts of torch while it loads: two loads at once find each other's weights missing.
_ONE_AT_A_TIME = threading.Lock()
#: For each kind of model: the architectures that can be it, and what to call it.
KINDS = {
    AutoModelForCausalLM: (transformers.MODEL_FOR_CAUSAL_LM_MAPPING, "causal language model"),
    AutoModelForSequenceClassification: (
        transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, "text-classification model",
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
        raise InputError("device", f"There is no device {device!r} here. Leave it out to take the fastest.") from error
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
    """What is known of a loaded model: its parameters, and the type of the numbers that it multiplies."""

    parameters: int
    dtype: str


def facts(model) -> Facts:
    """The facts of a model, whoever loaded it."""
    dtype = str(model.dtype).removeprefix("torch.")
    return getattr(model, "bon_facts", None) or Facts(model.num_parameters(), DTYPES.get(dtype, dtype))


def _named_dtype(dtype: str | None) -> str | None:
    if dtype and dtype != "auto" and dtype not in DTYPES:
        raise InputError("dtype", f"dtype must be auto or one of {', '.join(DTYPES)}, not {dtype!r}.")
    return DTYPES.get(dtype)


def causal(place: str, device: str | None = None, dtype: str | None = None):
    """A causal language model in eval mode with its tokenizer, from a folder or the Hub.

    Raises `ModelError` where it is absent, out of reach or of another kind.
    """
    return _live(AutoModelForCausalLM, place, device, _named_dtype(dtype))


def classifier(place: str, device: str | None = None, dtype: str | None = None):
    """A text-classification model in eval mode with its tokenizer, from a folder or the Hub."""
    dtype = _named_dtype(dtype)
    if dtype == "int8" and packing.has_tiles():
        dtype = "bf16"  # it reads many rows at a time, for which int8 and the rounding of its inputs are no faster
    return _live(AutoModelForSequenceClassification, place, device, dtype)


def _live(kind, place: str, device: str | None, dtype: str | None):
    device = choose_device(device)
    if dtype == "int8" and not (device == "cpu" and packing.can_round()):
        raise InputError("dtype", "int8 needs a processor that multiplies it (VNNI or AMX). Leave dtype out.")
    return LIVE.get((kind.__name__, place, device, dtype), lambda: _load(kind, place, device, dtype))


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ran out."""
    # The CPU allocator raises a plain RuntimeError, known by its words alone.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def is_loaded(place: str) -> bool:
    """Whether a model of this folder or Hub id is ready in memory."""
    return any(key[1] == place for key in LIVE)


def _load(kind, place: str, device: str, dtype: str | None):
    with _quiet:
        folder = _folder(place)
        try:
            with _ONE_AT_A_TIME:
                model, tokenizer = _from_folder(kind, folder, place)
            model = _laid_out(kind, model, device, dtype)
        except ModelError:
            raise
        except Exception as error:  # each library raises its own; the reader needs one sentence
            raise ModelError(_why_unreadable(place, device, error)) from error
    return model, tokenizer


def _laid_out(kind, model, device: str, dtype: str | None):
    """The model on its device in its number type, its weights as the processor reads them best."""
    known = Facts(model.num_parameters(), choose_dtype(dtype, device, model.num_parameters()))
    rounded = known.dtype == "int8"
    # What int8 leaves alone: float32 needs no conversions at each step of a few rows; a classifier reads many at a
    # time, and attention among them is faster in bf16.
    beside = "bf16" if kind is AutoModelForSequenceClassification and native_bf16(device) else "float32"
    plain = beside if rounded else known.dtype
    model = model.eval().to(device, TORCH_DTYPES[plain])
    if device == "cpu" and (rounded or packing.can_pack(model.dtype)) and not packing.pack(model, rounded) and rounded:
        known = Facts(known.parameters, plain)
    model.bon_facts = known
    return model


def _from_folder(kind, folder: str, place: str):
    # Pickled weights only through weights_only loading, transformers' default; no code from a repository ever.
    asked = {"trust_remote_code": False, "local_files_only": True}
    config = AutoConfig.from_pretrained(folder, **asked)
    _check_kind(kind, config, place)
    tokenizer = AutoTokenizer.from_pretrained(folder, **asked)
    # Loading in another type would change torch's default type for all threads meanwhile.
    model, report = kind.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, **asked
    )
    if report["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise ModelError(
            f"{place} lacks weights of a {KINDS[kind][1]} ({min(report['missing_keys'])}): it was saved as another "
            "kind of model, or not in full."
        )
    return model, tokenizer


def _check_kind(kind, config, place: str) -> None:
    if kind is AutoModelForCausalLM and getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{place} is a sequence-to-sequence model; bon samples from causal language models.")
    architectures, called = KINDS[kind]
    if type(config) not in architectures:
        raise ModelError(f"{place} is a {config.model_type} model, which cannot be a {called}.")


def _folder(place: str) -> str:
    """The folder with a model's files: `place` itself, or the Hub's cache, with what was missing fetched into it.

    The Hub is asked whether there is a newer version; where it does not answer, a complete copy will do.
    """
    if os.path.isabs(place) or os.path.isdir(place):
        return models.checked_place(place)
    patience = 3 if models.state(place) == "here" else 10
    try:
        info = HfApi().model_info(place, timeout=patience)
    except Exception as error:
        return _copy(place, _why_unreachable(place, error), error)
    files = models.needed([file.rfilename for file in info.siblings or ()])
    if "config.json" not in files:
        raise ModelError(f"The Hub's {place} has no config.json with safetensors or PyTorch weights beside it.")
    try:
        return snapshot_download(place, allow_patterns=files)
    except Exception as error:
        return _copy(place, _why_broken_off(place, error), error)


def _copy(place: str, otherwise: str, error: Exception) -> str:
    if models.state(place) == "here":
        return str(models.snapshot(place))
    raise ModelError(otherwise) from error


def _why_unreachable(place: str, error: Exception) -> str:
    if refused := _why_refused(place, error):
        return refused
    remedy = (f"run `hf download {place}` where there is a network, give a folder, or take the preset `embedded`, "
              "which needs none.")
    if models.hub_is_off():
        return f"{place} is not on this machine and HF_HUB_OFFLINE is set. Unset it, {remedy}"
    return f"{place} is not on this machine and the Hub could not be reached ({_in_short(error)}). Try again, {remedy}"


def _why_broken_off(place: str, error: Exception) -> str:
    return _why_refused(place, error) or (
        f"The download of {place} broke off ({_in_short(error)}). Ask again: the files that arrived are kept."
    )


def _why_refused(place: str, error: Exception) -> str | None:
    # By type, not by status: a proxy's 403 says nothing about the model. Gated models are of this type too.
    if not any(isinstance(e, RepositoryNotFoundError) for e in _chain(error)):
        return None
    return (f"The Hub has no model {place} that can be read without a token. Check its name, log in with "
            f"`hf auth login`, or take a folder or one of the presets: {models.names()}.")


def _why_unreadable(place: str, device: str, error: Exception) -> str:
    if out_of_memory(error) or isinstance(error, MemoryError):
        return f"{place} does not fit into the memory of {device}. Take a smaller model or another device."
    if any(isinstance(e, pickle.UnpicklingError) for e in _chain(error)):
        return f"The weights of {place} are pickled code, which bon does not run. Take safetensors instead."
    if "custom code" in str(error):
        return f"{place} is loaded by code of its own, which bon does not run. Take a model that transformers knows."
    return f"{place} holds no model that transformers can load: {_first_line(error)}"


def _in_short(error: Exception) -> str:
    answer = _answer(error)
    return f"it answered with status {answer}" if answer else _first_line(error)


def _answer(error: Exception) -> int | None:
    """The status of the Hub's answer that an error comes from."""
    return next((e.response.status_code for e in _chain(error) if isinstance(e, HfHubHTTPError)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class _Quiet:
    """Silences the libraries' own talk while models load: what matters is said by bon.

    The bars of downloads stay where somebody sees them. Several threads may be inside; what was set before comes
    back when the last one leaves.
    """

    def __init__(self):
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self):
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._hush()

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()

    def _hush(self):
        self._hub = logging.getLogger("huggingface_hub")
        self._levels = transformers.logging.get_verbosity(), self._hub.level
        self._bars = transformers.utils.logging.is_progress_bar_enabled()
        seen = sys.stderr.isatty() or "ipykernel" in sys.modules
        downloads = seen and not are_progress_bars_disabled()
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        if downloads:
            enable_progress_bars()
        self._hub.setLevel(logging.ERROR)

    def _restore(self):
        transformers.logging.set_verbosity(self._levels[0])
        self._hub.setLevel(self._levels[1])
        if self._bars:
            transformers.utils.logging.enable_progress_bar()


_quiet = _Quiet()
