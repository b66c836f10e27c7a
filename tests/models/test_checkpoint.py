"""Model folders: weights that would give wrong logits are refused by name, harmless extra tensors are loaded."""

import importlib.util
import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name
from transformers.utils import sentencepiece_model_pb2_new

import bon
from bon.engines.local.engine import LocalEngine
from bon.errors import InputError, ModelError
from bon.models import loading, presets
from bon.scorers.logprob import MeanLogprobScorer
from bon.scorers.sentiment import SentimentScorer
from tests.support import tiny

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 12345\n"
ATTENTION = "model.layers.0.self_attn"
LAYERS = [f"{ATTENTION}.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
SIZE = {"vocab_size": 350, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "pad_token_id": 0, "max_position_embeddings": 64}


@pytest.fixture(autouse=True)
def _nothing_loaded():
    loading.LIVE.clear()


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    """The folder of a Llama of one layer."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZE | {"num_hidden_layers": 1}, tie_word_embeddings=False))
    return tiny.save(model, tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(llama, tmp_path):
    """Copies the Llama's folder with its weights changed, by a function of all or of each layer, and its config."""
    def make(weights=None, layer=None, pickled=False, **config) -> str:
        shutil.copytree(llama, tmp_path, dirs_exist_ok=True)
        tensors = load_file(tmp_path / "model.safetensors")
        for name in LAYERS if layer else ():
            tensors |= {f"{name}.{part}": tensor for part, tensor in layer(tensors.pop(f"{name}.weight")).items()}
        tensors = weights(tensors) if weights else tensors
        if pickled:
            (tmp_path / "model.safetensors").unlink()
            torch.save(tensors, tmp_path / "pytorch_model.bin")
        else:
            save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        change(tmp_path / "config.json", **config)
        return str(tmp_path)

    return make


def change(file, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def assert_refused(path, *parts: str, scorer: bool = False) -> None:
    """Asserts that the model cannot be loaded as a generator, or as a scorer, and that the error holds these parts."""
    with pytest.raises(ModelError) as raised:
        SentimentScorer(str(path)) if scorer else bon.load(str(path), "logprob")
    for part in (str(path), *parts):
        assert part in str(raised.value)


def fp8_tensors(scale: str):
    """Gives a function for the tensors of a matrix in FP8 with its scale under this name."""
    def rounded(weight):
        factor = weight.abs().max() / 448
        return {"weight": (weight / factor).to(torch.float8_e4m3fn), scale: factor.reshape(1, 1)}

    return rounded


def int8_tensors(weight):
    rows = weight.abs().amax(1) / 127
    return {"weight": (weight / rows.unsqueeze(1)).round().to(torch.int8), "SCB": rows * 127}


def bitsandbytes_tensors(weight):
    """The tensors of a matrix in the 4-bit format of bitsandbytes."""
    packed = torch.zeros(weight.numel() // 2, 1, dtype=torch.uint8)
    return {"weight": packed, "weight.absmax": torch.zeros(8), "weight.quant_map": torch.zeros(16)}


def gptq_tensors(weight):
    """The tensors of a matrix in the format of GPTQ and AWQ."""
    rows, columns = weight.shape
    return {"qweight": torch.zeros(columns // 8, rows, dtype=torch.int32), "scales": torch.ones(1, rows),
            "qzeros": torch.zeros(1, rows // 8, dtype=torch.int32), "g_idx": torch.zeros(columns, dtype=torch.int32)}


def compressed_tensors(weight):
    """The tensors of a matrix in the format of compressed-tensors."""
    return {"weight_packed": torch.zeros(len(weight), 4, dtype=torch.int32), "weight_scale": torch.ones(len(weight), 1)}


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize(("layer", "named"), [
    (fp8_tensors("weight_scale"), ".weight"), (fp8_tensors("weight_scale_inv"), ".weight"), (int8_tensors, ".weight"),
    (bitsandbytes_tensors, ".weight"), (gptq_tensors, ".qweight"), (compressed_tensors, ".weight_packed"),
])
def test_quantised_weights_without_a_method_are_refused_and_one_of_them_is_named(layer, named, pickled, folder):
    assert_refused(folder(layer=layer, pickled=pickled), named, "quantised", "bfloat16")


@pytest.mark.parametrize("method", [
    {"quant_method": "modelopt", "quant_algo": "FP8"}, {"quant_method": "of-tomorrow"}, {"bits": 4}, {},
])
def test_a_method_of_quantisation_that_transformers_does_not_know_is_refused(method, folder):
    named = method.get("quant_method", str(method))
    assert_refused(folder(layer=fp8_tensors("weight_scale"), quantization_config=method), f"({named})", "does not know")


@pytest.mark.parametrize(("method", "package"), [
    ({"quant_method": "gptq", "bits": 4}, "optimum"), ({"quant_method": "awq", "bits": 4}, "gptqmodel"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"), ({"load_in_8bit": True}, "bitsandbytes"),
    ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
])
def test_a_known_method_without_its_package_says_what_is_missing(method, package, folder):
    if importlib.util.find_spec(package.replace("-", "_")):
        pytest.skip(f"{package} is here")
    assert_refused(folder(layer=gptq_tensors, quantization_config=method), "quantised", "pip install", package)


def test_weights_in_fp8_by_a_known_method_are_read_with_their_scales(folder, llama):
    pytest.importorskip("accelerate")
    path = folder(layer=fp8_tensors("weight_scale_inv"), quantization_config={
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    })
    weights, original = loading.causal(path)[0].state_dict(), load_file(f"{llama}/model.safetensors")
    for name in LAYERS:
        quantised = fp8_tensors("scale")(original[f"{name}.weight"])
        assert torch.equal(weights[f"{name}.weight"], quantised["weight"].float() * quantised["scale"])


@pytest.mark.parametrize("weights", [
    lambda w: w | {f"{name}.lora_{part}.default.weight": torch.ones(32, 32) for name in LAYERS for part in "AB"},
    lambda w: {k.replace("proj.weight", "proj.base_layer.weight"): v for k, v in w.items()},
    lambda w: {"base_model.model." + k.replace("proj.weight", "proj.base_layer.weight"): v for k, v in w.items()},
    lambda w: w | {"model.layers.0.adapters.reviews.adapter_down.0.weight": torch.ones(4, 32)},
])
def test_adapters_among_the_weights_are_refused(weights, folder):
    assert_refused(folder(weights), "adapter", "Merge it")


def test_a_tensor_of_a_layer_that_would_be_ignored_is_refused(folder):
    assert_refused(folder(lambda w: w | {f"{LAYERS[0]}.bias": torch.ones(32)}), f"{LAYERS[0]}.bias", "does not have")


def test_a_reward_model_for_single_tokens_is_no_scorer_of_texts(tmp_path):
    model = transformers.LlamaForTokenClassification(LlamaConfig(**SIZE, num_labels=2))
    assert_refused(tiny.save(model, tmp_path), "score.bias", scorer=True)


def test_weights_of_another_size_are_refused_with_both_sizes(folder):
    assert_refused(folder(lambda w: w | {f"{LAYERS[1]}.weight": torch.zeros(16, 32)}), f"{LAYERS[1]}.weight", "16 x 32",
                   "32 x 32")


def test_experts_of_different_sizes_are_named(tmp_path):
    config = transformers.MixtralConfig(**SIZE | {"num_hidden_layers": 1}, num_local_experts=2, num_key_value_heads=2)
    tiny.save(transformers.MixtralForCausalLM(config), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.block_sparse_moe.experts.1.w1.weight"] = torch.zeros(16, 32)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_refused(tmp_path, "model.layers.0.mlp.experts.gate_up_proj", "[16, 32]")


def test_tensors_of_other_heads_and_computed_buffers_are_ignored(folder, llama):
    path = folder(lambda w: w | {
        f"{ATTENTION}.rotary_emb.inv_freq": torch.ones(8), f"{ATTENTION}.bias": torch.ones(1, 1, 4, 4).byte(),
        f"{ATTENTION}.masked_bias": torch.tensor(-1e4), f"{LAYERS[1]}.k_scale": torch.ones(1),
        "score.weight": torch.ones(2, 32), "v_head.summary.weight": torch.ones(1, 32),
        "pooler.dense.bias": torch.ones(4),
    })
    result = bon.load(path, "logprob").run("This movie", n=2, seed=1)
    assert result.notes == ()
    assert [c.text for c in result.candidates] == [
        c.text for c in bon.load(llama, "logprob").run("This movie", n=2, seed=1).candidates
    ]


ENCODERS = {
    "bert": transformers.BertConfig(**SIZE), "roberta": transformers.RobertaConfig(**SIZE),
    "electra": transformers.ElectraConfig(**SIZE, embedding_size=32), "rembert": transformers.RemBertConfig(**SIZE),
    "bert generation": transformers.BertGenerationConfig(**SIZE),
    "xlm": transformers.XLMConfig(vocab_size=350, emb_dim=32, n_layers=1, n_heads=2),
    "xlnet": transformers.XLNetConfig(vocab_size=350, d_model=32, n_layer=1, n_head=2, d_inner=32),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_refused_as_generator(name, tmp_path):
    model = AutoModelForCausalLM.from_config(ENCODERS[name])
    assert_refused(tiny.save(model, tmp_path), "both directions", "causal language model")
    for make in (LocalEngine, lambda *arguments: bon.BestOfNSampler(*arguments, len, lambda: 4)):
        with pytest.raises(ModelError, match=f"{type(model).__name__} reads a text in both directions"):
            make(model.train(), tiny.tokenizer())


@pytest.mark.parametrize("config", [
    transformers.BertConfig(**SIZE, is_decoder=True), transformers.RobertaConfig(**SIZE, is_decoder=True),
    transformers.GPTNeoXConfig(**SIZE),  # its config says False of is_decoder
    transformers.BartConfig(
        vocab_size=350, d_model=32, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32,
        is_encoder_decoder=False, is_decoder=True,
    ),
])
def test_encoder_architectures_with_is_decoder_generate(config, tmp_path):
    sampler = bon.load(tiny.save(AutoModelForCausalLM.from_config(config), tmp_path), "logprob")
    assert sampler.run("This movie", n=2, seed=1).best.tokens > 0


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json"])
def test_a_file_that_git_lfs_has_not_fetched_is_named(file, folder, tmp_path):
    folder()
    (tmp_path / file).write_text(POINTER)
    assert_refused(tmp_path, f"The file {file}", "Git LFS", "git lfs pull")


def test_a_git_lfs_pointer_that_is_not_read_is_ignored(folder, tmp_path):
    folder()
    (tmp_path / "tf_model.h5").write_text(POINTER)
    assert bon.load(str(tmp_path), "logprob").engine.name == str(tmp_path)


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize(("file", "advice"), [
    ("adapter_config.json", "names no peft_type"), ("tf_model.h5", ""),
])
def test_a_folder_with_another_format_in_place_of_weights_says_what_to_do(file, advice, with_config, folder, tmp_path):
    folder()
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / file).write_text("{}")
    if not with_config:
        (tmp_path / "config.json").unlink()
    assert_refused(tmp_path, advice or ("neither model.safetensors nor" if with_config else "no config.json"))


def test_weights_that_are_missing_in_part_or_broken_are_named(folder, tmp_path):
    folder()
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert_refused(tmp_path, "model.safetensors", "not a complete safetensors file")
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}))
    assert_refused(tmp_path, "file model-2.safetensors", "is missing or broken")
    assert presets.state(str(tmp_path)) == "partly here"
    index.unlink()
    assert_refused(tmp_path, "file model.safetensors.index.json", "is missing or broken")


def delete_tokenizer(path) -> None:
    for file in path.glob("tokenizer*"):
        file.unlink()


def test_a_model_without_a_vocabulary_is_refused(tmp_path):
    tiny.save(tiny.gpt2(), tmp_path)
    delete_tokenizer(tmp_path)
    assert_refused(tmp_path, "without a tokenizer", "tokenizer.json")


def test_a_vocabulary_that_transformers_does_not_read_is_refused(tmp_path):
    """XGLM's, which it reads from tokenizer.json alone: without it there are eleven tokens."""
    config = transformers.XGLMConfig(vocab_size=350, d_model=32, ffn_dim=32, num_layers=1, attention_heads=2)
    tiny.save(transformers.XGLMForCausalLM(config), tmp_path)
    delete_tokenizer(tmp_path)
    put_sentencepiece(tmp_path / "sentencepiece.bpe.model")
    assert_refused(tmp_path, "knows 11 tokens where the model has 350")


def put_sentencepiece(file) -> None:
    proto = sentencepiece_model_pb2_new.ModelProto()
    for text, type_number in (("<unk>", 2), ("<s>", 3), ("</s>", 3), ("▁", 1), ("a", 1)):
        piece = proto.pieces.add()
        piece.piece, piece.type = text, type_number
    file.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("package", ["sentencepiece", "tiktoken"])
def test_the_package_that_a_tokenizer_needs_is_the_one_of_its_format(package, folder, tmp_path):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is here")
    folder()
    delete_tokenizer(tmp_path)
    if package == "sentencepiece":
        put_sentencepiece(tmp_path / "tokenizer.model")
    else:
        (tmp_path / "tokenizer.model").write_text("YQ== 0\nYg== 1\n")
    assert_refused(tmp_path, "(tokenizer.model)", f"pip install {package}")


def test_a_broken_tokenizer_is_refused(folder, tmp_path):
    folder()
    (tmp_path / "tokenizer.json").write_text("{}")
    assert_refused(tmp_path, "The tokenizer of", "cannot be read")


def test_every_vocabulary_that_transformers_reads_is_fetched_and_known():
    for name in filter(None, set(TOKENIZER_MAPPING_NAMES.values())):
        try:
            files = [*(tokenizer_class_from_name(name).vocab_files_names or {}).values()]
        except (ImportError, AttributeError):  # a package is missing, or the tokenizer has no vocabulary
            continue
        assert not set(files).difference(presets.needed(["model.safetensors", *files])), name
        assert not files or name == "MyT5Tokenizer" or any(map(presets.TOKENIZERS.fullmatch, files)), name


def test_a_warning_of_transformers_is_a_note_on_each_load(folder):
    path = folder(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0,
                                   "original_max_position_embeddings": 16})
    for _ in range(2):  # transformers itself warns once per process
        (note,) = bon.load(path, "logprob").run("This movie", n=2, seed=1).notes
        assert note.startswith(f"transformers warned while loading {path}: ")
        assert "does not match the ratio" in note
        loading.LIVE.clear()


POSITIONS = {
    "gpt2": transformers.GPT2Config(vocab_size=350, n_positions=20, n_embd=32, n_layer=1, n_head=2),
    "mpt": transformers.MptConfig(vocab_size=350, max_seq_len=20, d_model=32, n_layers=1, n_heads=2),
    "opt": transformers.OPTConfig(
        vocab_size=350, hidden_size=32, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=32,
        max_position_embeddings=20,
    ),
    "roberta": transformers.RobertaConfig(**SIZE | {"max_position_embeddings": 22, "pad_token_id": 1}, is_decoder=True),
    "data2vec": transformers.Data2VecTextConfig(
        **SIZE | {"max_position_embeddings": 22, "pad_token_id": 1}, is_decoder=True,
    ),
    "whisper": transformers.WhisperConfig(
        vocab_size=350, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=20, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    ),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_a_text_up_to_the_last_position_is_written_and_a_longer_one_refused(name):
    """Configs differ in the name of the number of positions, and some tables reserve their first rows for padding."""
    engine = LocalEngine(AutoModelForCausalLM.from_config(POSITIONS[name]).eval(), tiny.tokenizer())
    sampler = bon.Sampler(engine, MeanLogprobScorer(), "tiny")
    assert engine.context == 20
    assert sampler.run("I", n=2, seed=1, min_tokens=19, max_tokens=19).best.tokens > 0
    with pytest.raises(InputError, match="holds 20 in all"):
        sampler.run("I", n=2, seed=1, min_tokens=20, max_tokens=20)


@pytest.mark.parametrize("number", [-1, 0])
def test_a_number_of_positions_below_one_sets_no_limit(number, folder):
    sampler = bon.load(folder(max_position_embeddings=number), "logprob")
    assert sampler.engine.context is None
    assert sampler.run("This movie", n=2, seed=1).best.tokens > 0


@pytest.mark.parametrize("scorer", ["embedded", "judge", "weak"])
@pytest.mark.parametrize("dtype", ["float32", "bf16", None])
def test_the_embedded_models_load_without_a_note(scorer, dtype):
    loading.LIVE.clear()
    assert bon.load("embedded", scorer, dtype=dtype).run("This movie", n=2, seed=1).notes == ()
