"""Weights from a folder or the Hub onto a device: which device, which number type, and what to say when it fails.

Every other module gets its models here, so nothing is loaded twice.
"""

import logging
import os

import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bon import models
from bon.cache import LiveCache
from bon.errors import InputError, ModelError

#: Models and their tokenizers, by kind, place, device and number type.
LIVE = LiveCache(limit=int(os.environ.get("BON_CACHE", "4")))
#: Below this many parameters a model's weights fit the processor's cache, and float32 is as fast as bf16 and exact.
SMALL = 30_000_000
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


def choose_dtype(dtype: str | None, device: str, parameters: int) -> torch.dtype:
    """The number type called `dtype`, or for None or `auto` the fastest that is native to the device."""
    if dtype and dtype != "auto":
        if dtype not in DTYPES:
            raise InputError("dtype", f"dtype must be auto or one of {', '.join(DTYPES)}, not {dtype!r}.")
        return DTYPES[dtype]
    if device == "mps":
        return torch.float16
    return torch.bfloat16 if parameters >= SMALL and native_bf16(device) else torch.float32


def causal(place: str, device: str | None = None, dtype: str | None = None):
    """A causal language model in eval mode with its tokenizer, from a folder or the Hub.

    Raises `ModelError` where it is absent, out of reach or of another kind.
    """
    device = choose_device(device)
    return LIVE.get(("causal", place, device, dtype), lambda: _load(AutoModelForCausalLM, place, device, dtype))


def classifier(place: str, device: str | None = None, dtype: str | None = None):
    """A text-classification model in eval mode with its tokenizer, from a folder or the Hub."""
    device = choose_device(device)
    # float32 unless asked otherwise: what ranks the candidates is worth its exact digits.
    key = ("classifier", place, device, dtype)
    return LIVE.get(key, lambda: _load(AutoModelForSequenceClassification, place, device, dtype or "float32"))


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ran out."""
    # The CPU allocator raises a plain RuntimeError, known by its words alone.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def is_loaded(place: str) -> bool:
    """Whether a model of this folder or Hub id is ready in memory."""
    return any(key[1] == place for key in list(LIVE._values))


def _load(kind, place: str, device: str, dtype: str | None):
    # Safetensors where they exist; older PyTorch files through weights_only loading alone, which is the default of
    # both libraries; no code from a repository ever.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(place, trust_remote_code=False)
            _check_kind(kind, config, place)
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
            model = kind.from_pretrained(place, config=config, dtype=torch.float32, trust_remote_code=False)
        except ModelError:
            raise
        except Exception as error:  # each library raises its own; the reader needs one sentence
            raise ModelError(_why(place, error)) from error
    return model.to(device, choose_dtype(dtype, device, model.num_parameters())).eval(), tokenizer


def _check_kind(kind, config, place: str) -> None:
    if kind is AutoModelForCausalLM and getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{place} is a sequence-to-sequence model; bon samples from causal language models.")


def _why(place: str, error: Exception) -> str:
    chain = _chain(error)
    status = next((e.response.status_code for e in chain if isinstance(e, HfHubHTTPError) and e.response), None)
    said = " ".join(str(e) for e in chain)
    if os.path.isdir(place):
        return f"The folder {place} holds no model that transformers can load: {_first_line(error)}"
    if status in (401, 403, 404) or "not a valid model identifier" in said or "Repository Not Found" in said:
        return (f"The Hub has no model {place} that can be read without a token. Check its name, log in with "
                f"`hf auth login`, or take a folder or one of the presets: {models._names()}.")
    if models.hub_is_off():
        return (f"{place} is not on this machine and HF_HUB_OFFLINE is set. Unset it, run `hf download {place}` "
                "where there is a network, give a folder, or take the preset `embedded`.")
    if any(word in said for word in ("connect", "Connection", "offline", "timed out", "Timeout", "resolve")) or status:
        return (f"{place} is not on this machine and the Hub could not be reached. Run `hf download {place}` where "
                "there is a network, give a folder, or take the preset `embedded`, which needs none.")
    return f"{place} could not be loaded: {_first_line(error)}"


def _chain(error: BaseException | None) -> list[BaseException]:
    out: list[BaseException] = []
    while error is not None and error not in out:
        out.append(error)
        error = error.__cause__ or error.__context__
    return out


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class _quiet:
    """Silences the libraries' own talk while a model loads: what matters is said by bon."""

    def __enter__(self):
        self._level = transformers.logging.get_verbosity()
        self._bars = transformers.utils.logging.is_progress_bar_enabled()
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

    def __exit__(self, *_):
        transformers.logging.set_verbosity(self._level)
        if self._bars:
            transformers.utils.logging.enable_progress_bar()
