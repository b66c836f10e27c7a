"""LoRA adapters: they write what peft's own model writes, leave their base as it is, and are refused where unfit."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import bon
from bon.batch import batch_run
from bon.batch.batch_run import LocalWorker
from bon.batch.input_rows import Dataset
from bon.cli.main import main
from bon.compare.loading import load_models
from bon.errors import BonError, InputError, ModelError
from bon.models import loading, presets
from bon.models.files.gguf_loader import once_and_quiet
from bon.settings import Settings
from bon.ui.generate.run_view import chips
from bon.ui.hosting.deployment import Deployment
from bon.ui.work.model_loading import ModelLoader
from tests.support import tiny
from tests.support.adapters import change_config, write_adapter
from tests.support.gguf_files import smollm2_file, write_gguf

RUN = {"n": 4, "seed": 7, "min_tokens": 4, "max_tokens": 12, "scorer": "logprob"}
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def _nothing_loaded():
    loading.LIVE.clear()


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    """A folder with a Llama of two layers, whose output layer is not its embeddings."""
    return tiny.save(tiny.llama(), tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def tied(tmp_path_factory) -> str:
    """A folder with a Llama of two layers, whose output layer is its embeddings."""
    config = tiny.llama().config
    config.tie_word_embeddings = True
    torch.manual_seed(1)
    return tiny.save(LlamaForCausalLM(config), tmp_path_factory.mktemp("models") / "tied")


@pytest.fixture(scope="module")
def adapter_of_llama(llama, tmp_path_factory) -> str:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "tone", llama)


@pytest.fixture
def adapter(adapter_of_llama, tmp_path) -> Path:
    """A copy of the Llama's adapter, to change."""
    return Path(shutil.copytree(adapter_of_llama, tmp_path / "tone"))


def logits(model, length: int = 12) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(3, 3 + length).unsqueeze(0)).logits


def logits_of_peft(adapter: str | Path, base: str) -> torch.Tensor:
    """What peft's own model computes, its adapter apart from the weights."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    return logits(peft.PeftModel.from_pretrained(model, str(adapter)).eval())


def texts(result: bon.Result) -> list[str]:
    return [candidate.text for candidate in sorted(result.candidates, key=lambda c: c.index)]


def assert_refused(name: str | Path, *parts: str, scorer: str | Path = "logprob") -> None:
    with pytest.raises(ModelError) as refusal:
        bon.load(str(name), str(scorer))
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("options", [
    {}, {"r": 2, "lora_alpha": 32, "use_rslora": True}, {"use_dora": True}, {"bias": "all"}, {"bias": "lora_only"},
    {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 32}}, {"target_modules": "all-linear"},
    {"modules_to_save": ["lm_head"]}, {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"target_modules": ["embed_tokens", "q_proj"]}, {"trainable_token_indices": [5, 6]}, {"task_type": None},
    {"layer_replication": [[0, 2], [0, 2]]}, {"init_lora_weights": "pissa"}, {"layers_to_transform": [1]},
], ids=str)
def test_merged_weights_compute_what_peft_computes(options, llama, tmp_path):
    folder = write_adapter(tmp_path, llama, **options)
    computed, expected = logits(loading.causal(folder, dtype="float32")[0]), logits_of_peft(folder, llama)
    assert torch.allclose(computed, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(expected, logits(loading.causal(llama, dtype="float32")[0]), atol=0.01)


@pytest.mark.parametrize("options", [
    {"target_modules": ["lm_head"]}, {"target_modules": ["embed_tokens"]}, {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["embed_tokens"]}, {"target_modules": ["embed_tokens", "lm_head"]},
], ids=str)
def test_an_adapter_of_one_of_two_tied_layers_changes_that_one_alone(options, tied, tmp_path):
    folder = write_adapter(tmp_path, tied, **options)
    assert torch.allclose(logits(loading.causal(folder, dtype="float32")[0]), logits_of_peft(folder, tied), atol=1e-3)


def test_an_adapter_whose_merged_weights_would_compute_something_else_is_refused(tied, tmp_path, monkeypatch):
    monkeypatch.setattr("bon.models.files.adapter_loader._untie", lambda with_adapter: False)
    assert_refused(write_adapter(tmp_path, tied, target_modules=["lm_head"]), "gives other numbers")


def test_texts_are_those_of_peft_for_a_gpt2_too_and_in_every_number_type(lm_folder, tmp_path):
    folder = write_adapter(tmp_path, lm_folder)
    model = AutoModelForCausalLM.from_pretrained(lm_folder, dtype="float32")
    by_peft = peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
    by_peft.save_pretrained(tmp_path / "merged")
    tiny.tokenizer().save_pretrained(tmp_path / "merged")
    for dtype in ("float32", "bf16", "int8"):
        expected = bon.best_of_n("This movie", model=tmp_path / "merged", dtype=dtype, **RUN)
        assert texts(bon.best_of_n("This movie", model=folder, dtype=dtype, **RUN)) == texts(expected), dtype


def test_the_greedy_text_is_that_of_transformers_with_the_adapter_apart(llama, adapter_of_llama):
    ids = tiny.tokenizer()("This movie", return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(llama, dtype="float32")
    by_peft = peft.PeftModel.from_pretrained(model, adapter_of_llama).generate(
        input_ids=ids, do_sample=False, max_new_tokens=12, min_new_tokens=12)
    ours = bon.best_of_n("This movie", model=adapter_of_llama, n=1, top_k=1, min_tokens=12, max_tokens=12, seed=1,
                         scorer="logprob", dtype="float32")
    assert ours.best.text == tiny.tokenizer().decode(by_peft[0, ids.shape[1]:])


def test_an_adapter_of_smollm2_answers_as_transformers_does_with_it(tmp_path):
    base = str(tmp_path / "SmolLM2")
    file = smollm2_file()
    with once_and_quiet():
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
    model.hf_quantizer.remove_quantization_config(model)
    model.to(torch.bfloat16).save_pretrained(base)
    tokenizer.save_pretrained(base)
    model.float()
    folder = write_adapter(tmp_path / "tone", base, model=model, size=0.02, target_modules="all-linear")
    sampler = bon.load(folder, "logprob", dtype="float32")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    answer = sampler.run(messages=question, n=1, top_k=1, min_tokens=16, max_tokens=16, seed=1, temperature=1.0)
    asked = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**asked, do_sample=False, max_new_tokens=16)[0, asked["input_ids"].shape[1]:]
    assert answer.best.text == tokenizer.decode(ids, skip_special_tokens=True)
    assert answer.model == f"{folder} + SmolLM2"


def test_base_and_adapter_are_loaded_at_once_and_share_no_weights(llama, adapter_of_llama):
    before = texts(bon.best_of_n("This movie", model=llama, **RUN))
    models = load_models(llama, adapter_of_llama, "logprob")
    assert models.notes == ()
    assert models.tuned.name == "tone + llama"
    own, others = ({p.data_ptr() for p in engine.model.parameters()} for engine in (models.base, models.tuned))
    assert not own & others
    assert texts(bon.best_of_n("This movie", model=llama, **RUN)) == before
    assert texts(bon.best_of_n("This movie", model=adapter_of_llama, **RUN)) != before


def test_a_comparison_on_the_command_line_takes_an_adapter_as_tuned_model(llama, adapter_of_llama, capsys):
    assert main(["compare", "This movie", "The soup", "--model", llama, "--tuned", adapter_of_llama, "--scorer",
                 "logprob", "-n", "2", "--seed", "1", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert (compared["base"], compared["tuned"]) == (llama, "tone + llama")


def test_a_result_names_the_adapter_and_its_base_and_repeats_by_the_adapters_name(llama, adapter_of_llama):
    result = bon.best_of_n("This movie", model=adapter_of_llama, **RUN)
    assert result.model == f"{adapter_of_llama} + llama"
    engine = bon.load(adapter_of_llama, "logprob").engine
    assert chips(engine.describe(), "logprob")[0].startswith("model: tone + llama ")
    assert result.settings.model == adapter_of_llama
    assert texts(bon.best_of_n("This movie", **result.settings.named().to_dict())) == texts(result)


def test_an_adapter_that_is_written_anew_is_loaded_anew_and_named_in_a_plan(llama, adapter):
    sampler = bon.load(str(adapter), "logprob")
    assert bon.load(str(adapter), "logprob").engine.model is sampler.engine.model
    write_adapter(adapter, llama, seed=1)
    changed = bon.load(str(adapter), "logprob")
    assert texts(changed.run("This movie", n=4, seed=7)) != texts(sampler.run("This movie", n=4, seed=7))
    plans = [LocalWorker(s.engine, s.scorer).describe() for s in (sampler, changed)]
    assert plans[0]["adapter"] != plans[1]["adapter"]
    assert "adapter" not in LocalWorker(bon.load(llama, "logprob").engine, sampler.scorer).describe()


def test_a_batch_is_not_resumed_with_another_adapter(llama, adapter, tmp_path):
    (tmp_path / "in.csv").write_text("prompt\nThis movie\nThe soup\n")
    rows, output = Dataset(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    settings = Settings.of(RUN | {"model": str(adapter)})

    def begin(**options: bool) -> None:
        sampler = bon.load(str(adapter), "logprob")
        events = batch_run.stream(batch_run.Task(rows, output, settings, **options), sampler.engine, sampler.scorer)
        next(events)
        events.close()

    begin()
    begin(resume=True)
    write_adapter(adapter, llama, seed=1)
    with pytest.raises(InputError, match="adapter"):
        begin(resume=True)


@pytest.mark.parametrize("name", ["absolute", "from the adapter", "from here", "beside the adapter"])
def test_a_base_in_a_folder_is_found(name, llama, adapter, tmp_path, monkeypatch):
    shutil.copytree(llama, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    change_config(adapter, base_model_name_or_path={
        "absolute": str(tmp_path / "base"), "from the adapter": "../base", "from here": "base",
        "beside the adapter": "/home/somebody/models/base"}[name])
    assert bon.load("tone", "logprob").engine.name == "tone + base"
    assert presets.state(str(adapter)) == "here"


def test_a_base_in_a_gguf_file_is_merged_with_its_numbers(llama, adapter, tmp_path):
    file = write_gguf(tmp_path / "base.F32.gguf", llama)
    change_config(adapter, base_model_name_or_path=file)
    assert torch.allclose(logits(loading.causal(str(adapter), dtype="float32")[0]), logits_of_peft(adapter, llama),
                          rtol=1e-3, atol=1e-3)


def test_the_tokenizer_of_the_adapter_is_preferred(llama, adapter):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    tokenizer.save_pretrained(adapter)
    sampler = bon.load(str(adapter), "logprob")
    assert sampler.engine.describe()["chats"]
    assert not bon.load(llama, "logprob").engine.describe()["chats"]


@pytest.mark.parametrize("base", ["llama", "tied"])
def test_added_tokens_come_with_the_adapters_embeddings(base, request, tmp_path):
    base = request.getfixturevalue(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    size = model.config.vocab_size
    model.resize_token_embeddings(size + 3)
    write_adapter(tmp_path, base, model=model)
    loaded = loading.causal(str(tmp_path), dtype="float32")[0]
    assert loaded.get_input_embeddings().num_embeddings == size + 3
    resized = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    resized.resize_token_embeddings(size + 3)
    by_peft = peft.PeftModel.from_pretrained(resized, str(tmp_path)).eval()
    assert torch.allclose(logits(loaded), logits(by_peft), atol=1e-3)


def change_weights(adapter: Path, change) -> None:
    save_file(change(load_file(adapter / WEIGHTS)), adapter / WEIGHTS)


def first(weights: dict[str, torch.Tensor]) -> str:
    return min(weights)


@pytest.mark.parametrize(("change", "parts"), [
    (lambda w: {}, ["layers.0.self_attn.q_proj.lora_A.weight is missing"]),
    (lambda w: {k: v for k, v in w.items() if k != first(w)}, ["q_proj.lora_A.weight is missing"]),
    (lambda w: w | {first(w): torch.ones(8, 31)}, ["q_proj.lora_A.weight is 8 x 31, and 8 x 32"]),
    (lambda w: w | {"base_model.model.model.layers.7.mlp.lora_A.weight": torch.ones(8, 32)}, ["layers.7.mlp.lora_A"]),
    (lambda w: w | {first(w): torch.full((8, 32), float("nan"))}, ["no finite numbers"]),
])
def test_weights_that_do_not_fit_are_named(change, parts, adapter, llama):
    change_weights(adapter, change)
    assert_refused(adapter, str(adapter), *parts)


@pytest.mark.parametrize(("values", "parts"), [
    ({"r": 4}, ["lora_A.weight is 8 x 32, and 4 x 32"]),
    ({"peft_type": None}, ["names no peft_type"]), ({"peft_type": 3}, ["names no peft_type"]),
    ({"base_model_name_or_path": None}, ["does not name the model"]),
    ({"peft_type": "PROMPT_TUNING"}, ["type PROMPT_TUNING"]), ({"peft_type": "OF_TOMORROW"}, ["type OF_TOMORROW"]),
    ({"task_type": "SEQ_CLS"}, ["adapter of a classifier"]), ({"task_type": "SEQ_2_SEQ_LM"}, ["task SEQ_2_SEQ_LM"]),
    ({"modules_to_save": ["score"]}, ["adapter of a classifier"]),
    ({"target_modules": ["c_attn"]}, ["none of the layers", "c_attn"]),
    ({"target_modules": "nothing.*"}, ["none of the layers", "(nothing.*)"]),
    ({"alora_invocation_tokens": [5]}, ["uses alora_invocation_tokens"]),
    ({"megatron_config": {"a": 1}, "megatron_core": "this"}, ["uses megatron_config"]),
    ({"base_model_name_or_path": "./nowhere"}, ["changes the model ./nowhere", "no folder", "adapter_config.json"]),
    ({"base_model_name_or_path": "no name!"}, ["changes the model no name!"]),
    ({"base_model_name_or_path": "//host/share"}, ["changes the model //host/share", "no folder //host/share"]),
    ({"base_model_name_or_path": "C:\\models\\base"}, ["changes the model C:\\models\\base", "no folder"]),
    ({"base_model_name_or_path": "somebody/model"}, ["somebody/model", "hf download", "adapter_config.json"]),
])
def test_a_config_that_does_not_fit_says_why(values, parts, adapter, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    change_config(adapter, **values)
    assert_refused(adapter, str(adapter), *parts)


@pytest.mark.parametrize("make", [peft.IA3Config, peft.PrefixTuningConfig, peft.LoHaConfig])
def test_adapters_of_other_types_are_named(make, llama, tmp_path):
    options = {"num_virtual_tokens": 2} if make is peft.PrefixTuningConfig else {}
    model = AutoModelForCausalLM.from_pretrained(llama)
    if make is peft.IA3Config:
        options = {"feedforward_modules": []}
    config = make(**{"task_type": "CAUSAL_LM"} | options | (
        {} if make is peft.PrefixTuningConfig else {"target_modules": ["q_proj"]}))
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    assert_refused(tmp_path, f"type {config.peft_type.value}", "only LoRA")


def test_an_adapter_of_another_model_with_layers_of_the_same_names_is_refused(adapter, tmp_path):
    config = tiny.llama().config
    config.hidden_size, config.num_hidden_layers = 64, 1
    other = tiny.save(LlamaForCausalLM(config), tmp_path / "other")
    change_config(adapter, base_model_name_or_path=other)
    assert_refused(adapter, "does not fit", "8 x 32, and 8 x 64")


def test_an_adapter_of_another_architecture_is_refused(adapter, lm_folder):
    change_config(adapter, base_model_name_or_path=lm_folder)
    assert_refused(adapter, "does not fit", "none of the layers", "q_proj, v_proj")


@pytest.mark.parametrize(("content", "parts"), [
    (None, ["has no weights", WEIGHTS]), (b"", ["has no weights"]), (b"abc", [WEIGHTS, "not a complete safetensors"]),
    (b"version https://git-lfs.github.com/spec/v1\n", ["Git LFS", "git lfs pull"]),
])
def test_a_file_of_weights_that_is_none_is_named(content, parts, adapter):
    (adapter / WEIGHTS).unlink()
    if content is not None:
        (adapter / WEIGHTS).write_bytes(content)
    assert_refused(adapter, str(adapter), *parts)


def test_pickled_weights_are_read_and_pickled_code_is_not_run(llama, adapter):
    expected = logits_of_peft(adapter, llama)
    torch.save(load_file(adapter / WEIGHTS), adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()
    assert torch.allclose(logits(loading.causal(str(adapter), dtype="float32")[0]), expected, atol=1e-3)
    torch.save({"a": Path("x")}, adapter / "adapter_model.bin")
    assert_refused(adapter, str(adapter))


@pytest.mark.parametrize("content", ["[]", "{", "null", "{}"])
def test_a_config_that_is_none_is_named(content, adapter):
    (adapter / "adapter_config.json").write_text(content)
    assert_refused(adapter, "adapter_config.json", "names no peft_type")


def test_a_quantised_base_says_what_to_write(llama, adapter, tmp_path):
    base = Path(shutil.copytree(llama, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    change_config(adapter, base_model_name_or_path=str(base))
    assert_refused(adapter, "bitsandbytes", "base_model_name_or_path")


def test_an_adapter_of_an_adapter_is_refused_even_where_it_is_itself(adapter):
    change_config(adapter, base_model_name_or_path=str(adapter))
    assert_refused(adapter, "changes the model", "Merge the two")
    assert presets.state(str(adapter)) == "here"


def test_a_folder_with_several_adapters_lists_them(adapter, tmp_path):
    adapter.rename(tmp_path / "b")
    shutil.copytree(tmp_path / "b", tmp_path / "a")
    assert_refused(tmp_path, "several: a, b", f"{tmp_path}/a")


def test_an_adapter_beside_the_weights_of_a_model_is_refused(llama, adapter):
    shutil.copytree(llama, adapter, dirs_exist_ok=True)
    assert_refused(adapter, "holds a model's weights and an adapter")


def test_an_adapter_is_refused_as_scorer(llama, adapter):
    assert_refused(llama, str(adapter), "Merge the two", scorer=adapter)


def test_options_of_a_newer_peft_and_a_revision_are_noted(adapter):
    change_config(adapter, twist=3, nothing=False, revision="v2")
    notes = " ".join(bon.best_of_n("This movie", model=adapter, **RUN).notes)
    assert "ignores: twist" in notes
    assert "the revision v2" in notes


def test_a_missing_package_is_named(adapter, monkeypatch):
    found = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions",
                        lambda **by: [] if by.get("name") == "peft" else found(**by))
    assert_refused(adapter, "pip install peft")


def test_visitors_of_a_public_page_name_listed_adapters_alone_and_start_no_download(adapter, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    page = Deployment(public=True)
    with pytest.raises(InputError, match="offers the models embedded"):
        ModelLoader(page).load(Settings(model=str(adapter))).result()
    change_config(adapter, base_model_name_or_path="somebody/model")
    listed = Deployment(public=True, models=("embedded", str(adapter)))
    with pytest.raises(BonError, match="download"):
        ModelLoader(listed).load(Settings(model=str(adapter))).result()
    change_config(adapter, base_model_name_or_path="/srv/secret")
    with pytest.raises(BonError) as refusal:
        ModelLoader(listed).load(Settings(model=str(adapter), scorer="logprob")).result()
    assert "secret" not in str(refusal.value)
