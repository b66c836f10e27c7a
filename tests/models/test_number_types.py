"""Number types: the int8 kernels, the table of processors, and the check of int8 at loading."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import bon
from bon.cli.main import main
from bon.errors import InputError
from bon.models import devices, loading, packed_linear
from bon.models.cache import LiveCache
from bon.models.number_types import int8_check, int8_products, processor, table
from bon.run_state import rerank
from bon.ui.generate import run_view
from tests.support import int8_kernels

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
needs_avx2 = pytest.mark.skipif(not processor.has_avx2(), reason="not on this processor")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The folder that remembers checks, and no models loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "LIVE", LiveCache())
    return tmp_path / "cache" / "bon" / "int8"


@pytest.fixture
def _large(monkeypatch):
    """Tiny models count as larger ones, on a processor whose default for these is int8."""
    monkeypatch.setattr(table, "SMALL", 1)
    monkeypatch.setattr(packed_linear, "SMALLEST", 1)
    kind = next(kind for kind in table.KINDS if kind.name == "AVX-512 with VNNI")
    monkeypatch.setattr(table, "this_kind", lambda: dataclasses.replace(kind, differing="float32"))


@pytest.fixture
def _other_kernels(monkeypatch):
    """The kernel is looked for anew, now and afterwards."""
    int8_products.kernel.cache_clear()
    yield
    int8_products.kernel.cache_clear()


def report_with(**switches):
    """What a process reports whose libraries have these switches."""
    others = {name: value for name, value in os.environ.items() if name not in AVX2}
    done = subprocess.run([sys.executable, "-m", "tests.support.int8_kernels"], env=others | switches,
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@needs_avx2
def test_an_exact_kernel_never_saturates_and_keeps_rows_apart():
    report = int8_kernels.report()
    assert report["good"] == report["exact"]
    assert {"fbgemm 90", "int_mm 90"} <= set(report["exact"])
    assert report["chosen"] in report["exact"]


@needs_avx2
def test_with_avx2_alone_rows_have_fewer_bits_and_all_that_is_asked_of_the_processor_agrees():
    report = report_with(**AVX2)
    assert report == {"exact": ["fbgemm 90", "int_mm 90"], "good": ["fbgemm 90", "int_mm 90"], "chosen": "fbgemm 90",
                      "kind": "AVX2", "bf16": False, "tiles": False}


@pytest.mark.skipif(not processor.has_avx512(), reason="not on this processor")
@pytest.mark.parametrize(("switch", "value", "unlike"), [
    ("ONEDNN_MAX_CPU_ISA", "AVX2", {"bf16": False, "tiles": False, "without": "int_mm 127", "kind": "AVX2"}),
    ("FBGEMM_ENABLE_INSTRUCTIONS", "AVX512", {"without": "fbgemm 127"}),
])
def test_a_switch_of_one_library_counts_for_what_that_library_computes(switch, value, unlike):
    report = report_with(**{switch: value})
    assert unlike.pop("without") not in report["exact"]
    assert report["good"] == report["exact"]
    assert unlike.items() <= report.items()


@needs_avx2
@pytest.mark.usefixtures("_other_kernels")
def test_a_kernel_that_torch_has_removed_costs_speed_and_never_the_run(cache, lm_folder, monkeypatch):
    monkeypatch.setattr(packed_linear, "SMALLEST", 1)
    monkeypatch.delattr(torch, "_make_per_channel_quantized_tensor")
    assert int8_products.kernel().name == "int_mm"
    model, _ = loading.causal(lm_folder, "cpu", "int8")
    assert (loading.facts(model).dtype, loading.notes(model)) == ("int8", ())
    int8_products.kernel.cache_clear()
    monkeypatch.delattr(torch, "_int_mm")
    loading.LIVE.clear()
    model, _ = loading.causal(lm_folder, "cpu", "int8")
    assert loading.facts(model).dtype == "float32"
    assert "no int8 kernel" in loading.notes(model)[0]


@pytest.mark.parametrize(("name", "larger", "classifier"), [
    ("AMX", "bf16", "bf16"), ("AVX-512 with VNNI and bf16", "int8", "bf16"), ("AVX-512", "float16", "float32"),
    ("AVX2", "float16", "float32"), ("ARM", "float32", "float32"), ("other", "float32", "float32"),
])
def test_the_table_decides_the_number_type(name, larger, classifier, monkeypatch):
    kind = next(kind for kind in table.KINDS if kind.name == name)
    monkeypatch.setattr(table, "this_kind", lambda: kind)
    assert devices.choose_dtype(None, "cpu", table.SMALL) == larger
    assert devices.choose_dtype("auto", "cpu", table.SMALL, classifies=True) == classifier
    assert devices.choose_dtype(None, "cpu", table.SMALL - 1) == "float32"
    assert devices.choose_dtype("bf16", "cpu", table.SMALL) == "bf16"


def test_bench_prints_the_table_and_marks_this_machine(capsys):
    assert main(["bench", "--number-types"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(table.KINDS)
    assert [line for line in lines if "(this machine)" in line] == [
        line for line in lines if line.startswith(f"| {table.this_kind().name} (")]
    assert "not tested" in lines[-1]


@needs_avx2
@pytest.mark.usefixtures("_large")
def test_a_larger_model_is_in_int8_where_that_changes_it_little(cache, lm_folder, tmp_path):
    folder = shutil.copytree(lm_folder, tmp_path / "lm")
    model, _ = loading.causal(str(folder), "cpu")
    assert loading.facts(model).dtype == "int8"
    assert loading.notes(model) == ()
    (file,) = cache.iterdir()
    assert 0 < json.loads(file.read_text()) < int8_check.MOST_KL
    # A second load believes the file, until the model's files change.
    file.write_text("0.25")
    loading.LIVE.clear()
    model, _ = loading.causal(str(folder), "cpu")
    assert loading.facts(model).dtype == "float32"
    assert "0.250 nats of KL per token, more than 0.005" in loading.notes(model)[0]
    os.utime(folder / "model.safetensors", (1, 1))
    loading.LIVE.clear()
    assert loading.facts(loading.causal(str(folder), "cpu")[0]).dtype == "int8"
    # A file that holds no number is as if it were not there.
    for remembered in cache.iterdir():
        remembered.write_text("{}")
    loading.LIVE.clear()
    assert loading.facts(loading.causal(str(folder), "cpu")[0]).dtype == "int8"


@needs_avx2
@pytest.mark.usefixtures("_large")
def test_a_model_that_int8_changes_too_much_stays_as_it_is_and_computes_the_same(cache, lm_folder, monkeypatch):
    exact, _ = loading.causal(lm_folder, "cpu", "float32")
    monkeypatch.setattr(int8_check, "MOST_KL", 0.0)
    model, _ = loading.causal(lm_folder, "cpu")
    assert loading.facts(model).dtype == "float32"
    assert len(loading.notes(model)) == 1
    ids = torch.arange(8)[None]
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, exact(input_ids=ids).logits)
    assert loading.facts(loading.causal(lm_folder, "cpu", "int8")[0]).dtype == "int8"


@needs_avx2
@pytest.mark.usefixtures("_large")
def test_a_cache_folder_that_cannot_be_written_is_no_error(cache, lm_folder):
    cache.parents[1].write_text("")  # a file where a folder should be
    assert loading.facts(loading.causal(lm_folder, "cpu")[0]).dtype == "int8"


def test_a_result_and_its_record_hold_the_number_type(lm_folder):
    result = bon.best_of_n("This movie", model=lm_folder, scorer="logprob", n=2, seed=1, max_tokens=4, dtype="bf16")
    assert result.dtype == "bf16"
    assert run_view.read_record(json.dumps(run_view.record(result))).dtype == "bf16"
    assert rerank(result, dataclasses.replace(result.settings, select="worst"), 0.0).dtype == "bf16"


def test_int8_on_another_device_than_the_processor_is_refused(lm_folder):
    with pytest.raises(InputError, match="needs a CPU"):
        loading.causal(lm_folder, "meta", "int8")


@needs_avx2
@pytest.mark.usefixtures("_large")
def test_weights_in_float16_change_a_model_very_little_and_no_row_by_its_neighbours(cache, lm_folder):
    exact, _ = loading.causal(lm_folder, "cpu", "float32")
    half, _ = loading.causal(lm_folder, "cpu", "float16")
    assert loading.facts(half).dtype == "float16"
    assert any(isinstance(module, packed_linear.HalfLinear) for module in half.modules())
    ids = torch.arange(24).reshape(3, 8)
    with torch.inference_mode():
        expected, logits = exact(input_ids=ids).logits, half(input_ids=ids).logits
        kl = (expected.softmax(-1) * (expected.log_softmax(-1) - logits.log_softmax(-1))).sum(-1)
        assert kl.max() < 1e-5
    torch.manual_seed(0)
    layer, rows = packed_linear.HalfLinear(torch.randn(300, 256), torch.randn(300)), torch.randn(64, 256)
    together = layer(rows)
    assert all(torch.equal(layer(row[None])[0], out) for row, out in zip(rows, together, strict=True))


@needs_avx2
def test_weights_too_large_for_float16_stay_in_float32(monkeypatch):
    monkeypatch.setattr(packed_linear, "SMALLEST", 1)
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 16))
    with torch.no_grad():
        model[1].weight[3, 5] = 1e5
    monkeypatch.setattr(packed_linear, "_runs", lambda _: True)
    assert packed_linear.pack(model, half=True)
    assert [type(layer) for layer in model] == [packed_linear.HalfLinear, packed_linear.PackedLinear]


@needs_avx2
@pytest.mark.usefixtures("_large")
def test_without_the_kernel_of_float16_the_default_is_float32(cache, lm_folder, monkeypatch):
    monkeypatch.setattr(table, "this_kind", lambda: next(kind for kind in table.KINDS if kind.name == "AVX2"))
    monkeypatch.setattr(packed_linear, "can_halve", lambda: False)
    model, _ = loading.causal(lm_folder, "cpu")
    assert loading.facts(model).dtype == "float32"
    monkeypatch.setattr(packed_linear, "can_halve", lambda: True)
    loading.LIVE.clear()
    assert loading.facts(loading.causal(lm_folder, "cpu")[0]).dtype == "float16"
