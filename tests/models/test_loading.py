"""The cache of loaded models, and the choice of device and number type."""

import logging
import threading
import time

import pytest
import torch
import transformers

from bon.errors import InputError
from bon.models import loading
from bon.models.cache import LiveCache
from tests.support import tiny


class Maker:
    """Makes values once the event `open` is set; `made` lists the keys."""

    def __init__(self, failures: int = 0):
        self.made, self.failures, self.open = [], failures, threading.Event()

    def __call__(self, key: str):
        self.made.append(key)
        self.open.wait(5)
        if len(self.made) <= self.failures:
            raise OSError("not this time")
        return object()


def results_of_threads(number: int, work) -> list:
    """The values or OSErrors of `work` in `number` threads, which have ended when it returns."""
    results: list = [None] * number

    def run(i: int) -> None:
        try:
            results[i] = work(i)
        except OSError as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def open_maker(cache_calls: int, started: list, maker: Maker) -> None:
    """Lets the maker finish once all callers are on their way."""
    while len(started) < cache_calls:
        time.sleep(0.001)
    time.sleep(0.05)
    maker.open.set()


def test_threads_that_ask_for_the_same_key_get_one_value_made_once():
    cache, maker, started = LiveCache(), Maker(), []
    opener = threading.Thread(target=open_maker, args=(8, started, maker))
    opener.start()
    values = results_of_threads(8, lambda i: (started.append(i), cache.get("a", lambda: maker("a")))[1])
    opener.join()
    assert maker.made == ["a"]
    assert len({id(value) for value in values}) == 1


def test_a_slow_key_does_not_delay_another():
    cache, maker = LiveCache(), Maker()
    slow = threading.Thread(target=cache.get, args=("slow", lambda: maker("slow")))
    slow.start()
    assert cache.get("quick", lambda: "here") == "here"  # would wait forever
    assert slow.is_alive()
    maker.open.set()
    slow.join(5)


def test_only_the_most_recently_used_values_stay_within_the_limit():
    cache = LiveCache(limit=2)
    for key in ("a", "b", "a", "c"):
        cache.get(key, object)
    assert list(cache) == ["a", "c"]


def test_an_evicted_value_is_made_again():
    cache, maker = LiveCache(limit=1), Maker()
    maker.open.set()
    for key in ("a", "b", "a"):
        cache.get(key, lambda key=key: maker(key))
    assert maker.made == ["a", "b", "a"]


def test_a_failure_is_raised_and_the_next_caller_tries_again():
    cache, maker = LiveCache(), Maker(failures=1)
    maker.open.set()
    with pytest.raises(OSError, match="not this time"):
        cache.get("a", lambda: maker("a"))
    assert list(cache) == []
    assert cache.get("a", lambda: maker("a")) is cache.get("a", lambda: maker("a"))
    assert maker.made == ["a", "a"]


def test_callers_that_waited_for_a_failure_try_again_one_at_a_time():
    cache, maker, started = LiveCache(), Maker(failures=1), []
    opener = threading.Thread(target=open_maker, args=(4, started, maker))
    opener.start()
    values = results_of_threads(4, lambda i: (started.append(i), cache.get("a", lambda: maker("a")))[1])
    opener.join()
    assert maker.made == ["a", "a"]
    assert sum(isinstance(value, OSError) for value in values) == 1
    assert len({id(value) for value in values}) == 2


def test_clearing_while_a_value_is_made_does_not_make_it_twice_at_once():
    cache, maker = LiveCache(), Maker()
    first = threading.Thread(target=cache.get, args=("a", lambda: maker("a")))
    first.start()
    while not maker.made:
        time.sleep(0.001)
    cache.clear()
    second = threading.Thread(target=cache.get, args=("a", lambda: maker("a")))
    second.start()
    time.sleep(0.05)
    assert maker.made == ["a"]
    maker.open.set()
    first.join(5)
    second.join(5)


@pytest.fixture
def live(monkeypatch) -> LiveCache:
    """The loader with an empty cache of its own."""
    monkeypatch.setattr(loading, "LIVE", LiveCache(limit=2))
    return loading.LIVE


def test_two_threads_that_ask_for_a_model_get_the_same_weights(live, lm_folder):
    loaded = results_of_threads(2, lambda i: loading.causal(lm_folder, "cpu"))
    assert loaded[0][0] is loaded[1][0]
    assert len(list(live)) == 1


def test_different_models_can_be_asked_for_at_once(live, tmp_path):
    folders = [tiny.save(tiny.gpt2(seed=seed), tmp_path / str(seed)) for seed in range(4)]
    loaded = results_of_threads(4, lambda i: loading.causal(folders[i], "cpu")[0])
    for seed, model in enumerate(loaded):
        assert torch.equal(model.lm_head.weight, tiny.gpt2(seed=seed).lm_head.weight)


def test_a_generator_and_a_scorer_stay_loaded_together(live, classifier_folder, lm_folder):
    loading.causal(lm_folder, "cpu")
    loading.classifier(classifier_folder, "cpu")
    assert [place for _, place, *_ in live] == [lm_folder, classifier_folder]


def test_an_evicted_model_is_no_longer_loaded(live, lm_folder, classifier_folder, reward_folder):
    loading.causal(lm_folder, "cpu")
    loading.classifier(classifier_folder, "cpu")
    loading.classifier(reward_folder, "cpu")
    assert [place for _, place, *_ in live] == [classifier_folder, reward_folder]


def test_two_names_of_one_number_type_are_one_model(live, lm_folder):
    assert loading.causal(lm_folder, "cpu", "bf16")[0] is loading.causal(lm_folder, "cpu", "bfloat16")[0]
    assert loading.causal(lm_folder, "cpu", None)[0] is loading.causal(lm_folder, "cpu", "auto")[0]


def test_a_model_has_the_number_type_that_was_asked_for_and_does_not_train(live, lm_folder):
    model, tokenizer = loading.causal(lm_folder, "cpu", "bf16")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert tokenizer("This movie")["input_ids"]


def test_a_small_model_is_left_in_float32_on_a_processor(live, lm_folder):
    assert loading.causal(lm_folder, "cpu")[0].dtype == torch.float32


class LogCollector(logging.Handler):
    """Collects the messages of a logger."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def test_the_libraries_log_again_once_the_last_of_several_loads_has_ended():
    def logged() -> tuple[int, bool, list[str]]:
        collector.lines.clear()
        transformers.logging.get_logger("transformers.modeling_utils").warning("The weights are new.")
        bars = transformers.utils.logging.is_progress_bar_enabled()
        return transformers.logging.get_verbosity(), bars, [*collector.lines]

    collector = LogCollector()
    transformers.logging.add_handler(collector)
    try:
        before = logged()
        loading.quiet.__enter__()
        loading.quiet.__enter__()
        loading.quiet.__exit__()
        assert logged()[1:] == (False, [])
        loading.quiet.__exit__()
        assert logged() == before
    finally:
        transformers.logging.remove_handler(collector)
    assert before[1:] == (True, ["The weights are new."])


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x", "mps", "tpu", "-1", "\x1b[31m"])
def test_a_device_that_does_not_exist_is_an_error_that_names_it(device, lm_folder, live):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(InputError, match="There is no device") as caught:
        loading.causal(lm_folder, device)
    assert caught.value.field == "device"
    assert repr(device) in str(caught.value)


def test_an_unknown_number_type_is_refused_before_anything_is_read(live):
    with pytest.raises(InputError, match="bf16") as caught:
        loading.causal("nobody/nothing", "cpu", "int3")
    assert caught.value.field == "dtype"


@pytest.mark.parametrize("limit", ["0", "-1", "many", "", "²", "0" * 5000])
def test_a_cache_limit_that_is_no_number_of_models_is_refused(limit, monkeypatch):
    monkeypatch.setenv("BON_CACHE", limit)
    with pytest.raises(InputError, match="BON_CACHE"):
        loading._cache_limit()
    monkeypatch.setenv("BON_CACHE", "9" * 5000)
    assert loading._cache_limit() > 10**9
