"""The server engine against llama.cpp's server with the model in the box, where that server is installed.

It takes ten minutes to compile, so the suite does not install it:
`pip install 'llama-cpp-python[server]' gguf` beside the tests' requirements.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import bon
from bon import flow
from bon.engines.server.engine import ServerEngine
from bon.models import presets
from bon.scorers.logprob import MeanLogprobScorer
from bon.settings import Request, Settings
from tests.support.model_servers import started

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(not (importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("gguf")),
                       reason="llama-cpp-python[server] and gguf are not installed"),
]


def write_gguf(file: Path) -> None:
    """The model in the box in llama.cpp's format."""
    import gguf
    from transformers import AutoModelForCausalLM

    folder = presets.find("embedded").model
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    config, weights = model.config, model.transformer.state_dict()
    writer = gguf.GGUFWriter(file, "gpt2")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    add_tokenizer(writer, Path(folder) / "tokenizer.json", config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    for name, weight in weights.items():
        # GPT-2 keeps its matrices the other way around.
        oriented = weight.T if name.startswith("h.") and name.endswith("weight") and weight.ndim == 2 else weight
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), oriented.contiguous().numpy())
    writer.add_tensor("output.weight", model.lm_head.weight.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer, file: Path, size: int) -> None:
    import gguf

    bpe = json.loads(file.read_text(encoding="utf-8"))["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    assert len(tokens) == size
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (size - 1))
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    """llama.cpp's server: its address."""
    folder = tmp_path_factory.mktemp("llama")
    write_gguf(folder / "reviews.gguf")
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "reviews.gguf"), "--model_alias",
               "reviews", "--host", "127.0.0.1", "--port", "PORT", "--n_ctx", "256", "--n_threads", "1"]
    with started(command, folder / "log", ready="/v1/models") as url:
        yield f"{url}/v1"


def texts(result) -> list[str]:
    return [c.text for c in sorted(result.candidates, key=lambda c: c.index)]


def test_llama_repeats_a_run_by_its_seed_and_returns_log_probabilities(llama):
    sampler = bon.load(endpoint=llama)
    assert sampler.engine.server.software == "llama.cpp"
    first, repeated, other_seed = (sampler.run("This movie", n=8, seed=seed, max_tokens=24) for seed in (7, 7, 8))
    assert texts(first) == texts(repeated)
    assert not set(texts(first)) & set(texts(other_seed))
    assert len(set(texts(first))) == 8
    assert all(c.logprob < 0 and 0 < c.tokens <= c.cap for c in first.candidates if c.text)
    assert first.notes == ()
    assert texts(sampler.run("This movie", n=4, seed=7, max_tokens=24)) == texts(first)[:4]


def test_llama_gives_the_log_probabilities_of_the_local_model(llama):
    settings = Settings(n=1, seed=1, top_k=1, min_tokens=12, max_tokens=12)
    request = Request("This movie", settings)
    remote = flow.run(request, ServerEngine.at(llama), MeanLogprobScorer()).best
    local = flow.run(request, bon.load(dtype="float32").engine, MeanLogprobScorer()).best
    assert (remote.text, remote.tokens) == (local.text, local.tokens)
    assert remote.logprob == pytest.approx(local.logprob, abs=5e-3)


def test_llama_samples_from_the_distribution_of_the_local_model(llama):
    def first_words(engine) -> dict[str, int]:
        request = Request("This movie", Settings(n=400, seed=5, min_tokens=1, max_tokens=1))
        sampled = texts(flow.run(request, engine, MeanLogprobScorer()))
        return {word: sampled.count(word) for word in set(sampled)}

    remote, local = first_words(ServerEngine.at(llama)), first_words(bon.load(dtype="float32").engine)
    distance = sum(abs(remote.get(word, 0) - local.get(word, 0)) for word in {*remote, *local}) / 800
    # Total variation of two samples of 400; llama.cpp's own defaults leave a third of the mass out.
    assert distance < 0.25
