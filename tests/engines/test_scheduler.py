"""Concurrent runs on one model: each gets the same texts as alone, and no run affects another."""

import gc
import threading
import time
import weakref
from contextlib import closing

import pytest
import torch

from bon import flow
from bon.engines.base import Job
from bon.engines.local import decoding_batch, scheduler
from bon.engines.local.engine import LocalEngine, Rules
from bon.errors import EngineError, InputError
from bon.events import Ended, Wrote
from bon.models import running
from bon.scorers.callable_scorer import CallableScorer
from bon.settings import Request, Settings
from tests.support import tiny

PROMPTS = ["This movie", "I was surprised that the soup was warm; my new phone", "The", "The hotel room was",
           "This movie", "Do not", "a", "It is not the lead that earns"]


def by_length(texts):
    return [float(len(text)) for text in texts]


def make_request(i=0, **settings):
    return Request(PROMPTS[i % 8], Settings(**{"n": 5 + i, "seed": i, "min_tokens": 3, "max_tokens": 30} | settings))


def facts(result):
    return [(c.index, c.token_ids, c.ended, c.text) for c in sorted(result.candidates, key=lambda c: c.index)]


def run(engine, i, **settings):
    return facts(flow.run(make_request(i, **settings), engine, CallableScorer(by_length)))


def run_together(*calls):
    """The result or the exception of each call; all run at once, each in its thread."""
    results, start = [None] * len(calls), threading.Barrier(len(calls))

    def call(number):
        start.wait()
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return results


class ForwardShapes:
    """Records the shape of the input of each forward pass; `slow` makes each pass take so many seconds."""

    def __init__(self, model, slow=0.0):
        self.model, self.slow, self.rows = model, slow, []

    def __enter__(self):
        self.handle = self.model.register_forward_pre_hook(self._record, with_kwargs=True)
        return self

    def _record(self, _, args, kwargs):
        self.rows.append(kwargs["input_ids"].shape)
        time.sleep(self.slow)

    def __exit__(self, *_):
        self.handle.remove()


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 20}, {"reject": 0.5}])
def test_eight_concurrent_runs_get_the_texts_that_each_gets_alone(engine, settings):
    alone = [run(engine, i, **settings) for i in range(8)]
    with ForwardShapes(engine.model, slow=0.002) as passes:
        assert run_together(*(lambda i=i: run(engine, i, **settings) for i in range(8))) == alone
    # They were decoded together: more rows in one pass than the largest call has.
    assert max(rows for rows, length in passes.rows if length == 1) > 12


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.8},
                                      {"reject": 0.5, "repetition_penalty": 0.6}])
def test_steps_as_a_cuda_graph_takes_them_write_the_same_texts(engine, settings, monkeypatch):
    expected = [run(engine, i, **settings) for i in range(8)]
    monkeypatch.setattr("bon.engines.local.decoder._captures", lambda model: True)
    with ForwardShapes(engine.model) as passes:
        assert [run(engine, i, **settings) for i in range(8)] == expected
    # Rows that ended are carried along, so few shapes occur: each would be captured anew.
    assert len({rows for rows, length in passes.rows if length == 1}) < 20
    assert run_together(*(lambda i=i: run(engine, i, **settings) for i in range(8))) == expected


def test_runs_with_different_settings_share_a_batch(engine):
    settings_by_run = [{"temperature": 0.5}, {"top_p": 0.6}, {"top_k": 3}, {"temperature": 1.6, "n": 20},
                       {"repetition_penalty": 3.0}, {"repetition_penalty": 0.5, "top_k": 9}, {}]
    alone = [run(engine, i, **settings) for i, settings in enumerate(settings_by_run)]
    assert run_together(*(lambda i=i: run(engine, i, **settings_by_run[i]) for i in range(7))) == alone


def test_engines_of_one_model_share_it_with_their_own_ends_and_names(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    alone = [run(engine, 1), run(endless, 1)]
    assert alone[0] != alone[1]
    assert run_together(lambda: run(engine, 1), lambda: run(endless, 1)) == alone


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1), (2, 0.5)])
def test_a_run_that_joins_late_changes_no_texts(engine, first, second):
    """Under the penalties of both runs."""
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    early, joining = {"repetition_penalty": first}, {"repetition_penalty": second}
    alone = [run(endless, 0, n=6, min_tokens=60, max_tokens=60, **early), run(endless, 1, **joining)]
    with ForwardShapes(engine.model) as passes:
        request = make_request(0, n=6, min_tokens=60, max_tokens=60, **early)
        stream = flow.stream(request, endless, CallableScorer(by_length))
        events = [next(stream) for _ in range(20)]
        late = run(endless, 1, **joining)  # in this thread, which takes the decode steps for both runs
        events += list(stream)
    assert [facts(events[-1].result), late] == alone
    widths = [rows for rows, length in passes.rows if length == 1]
    assert widths[0] == 6
    assert max(widths) == 12


def test_a_batch_for_a_file_shares_no_decode_step_with_other_runs(engine):
    """Other rows in the batch could turn a near-tie, and the same file would give another result."""
    rows = [make_request(i, n=4, min_tokens=8, max_tokens=8) for i in range(2)]
    with ForwardShapes(engine.model) as passes:
        stream = flow.stream(make_request(0, n=7, min_tokens=60, max_tokens=60), engine, CallableScorer(by_length))
        for _ in range(20):
            next(stream)
        flow.run_many(rows, engine, CallableScorer(by_length))
        list(stream)
    assert max(count for count, length in passes.rows if length == 1) == 8


def test_long_and_short_prompts_join_each_other(engine, monkeypatch):
    monkeypatch.setattr("bon.engines.local.prefix_cache.FEW", 20)
    alone = [run(engine, i, n=4) for i in range(8)]
    assert run_together(*(lambda i=i: run(engine, i, n=4) for i in range(8))) == alone


def test_a_prompt_that_makes_logits_nan_fails_only_its_own_run(engine):
    alone = run(engine, 0), run(engine, 2)
    poison = engine.encode(make_request(3)).ids[-1]
    assert not any(poison in engine.encode(make_request(i)).ids for i in (0, 2))

    def overflow(_, args, kwargs, out):
        ids = kwargs["input_ids"]
        if ids.shape[1] > 1:
            out.logits[(ids == poison).any(-1)] = torch.nan

    handle = engine.model.register_forward_hook(overflow, with_kwargs=True)
    try:
        before, poisoned, after = run_together(*(lambda i=i: run(engine, i) for i in (0, 3, 2)))
    finally:
        handle.remove()
    assert (before, after) == alone
    assert isinstance(poisoned, EngineError)
    assert "logits" in poisoned.message


def test_stopping_one_run_does_not_change_another(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    alone = run(endless, 2, n=7, min_tokens=40, max_tokens=40)
    stopped = threading.Event()

    def stopping():
        events = flow.stream(make_request(1, n=9, min_tokens=90, max_tokens=90), endless, CallableScorer(by_length))
        with closing(events):
            for event in events:
                if isinstance(event, Wrote) and event.rows[0].tokens == 12:
                    break
        stopped.set()

    with ForwardShapes(engine.model, slow=0.002) as passes:
        results = run_together(stopping, lambda: run(endless, 2, n=7, min_tokens=40, max_tokens=40))
    assert stopped.is_set()
    assert results[1] == alone
    # The stopped run's rows are gone: the last passes hold only the other run's.
    assert passes.rows[-1] == (7, 1)


def test_a_run_that_is_closed_during_anothers_prefill_takes_its_random_numbers_along(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    alone, prefill_began = run(endless, 3, n=4, min_tokens=60, max_tokens=60), threading.Event()

    def slow_prefill(_, args, kwargs):
        if kwargs["input_ids"].shape[1] == len(endless.encode(make_request(3)).ids):
            prefill_began.set()
            time.sleep(0.3)

    leaving = flow.stream(make_request(0, n=6, min_tokens=12, max_tokens=12), endless, CallableScorer(by_length))
    for _ in range(8):
        next(leaving)
    handle = endless.model.register_forward_pre_hook(slow_prefill, with_kwargs=True)
    results = run_together(lambda: run(endless, 3, n=4, min_tokens=60, max_tokens=60),
                           lambda: (prefill_began.wait(60), leaving.close()))
    handle.remove()
    assert results[0] == alone


@pytest.mark.parametrize(("first", "second"), [
    ((2, {"n": 8, "min_tokens": 20, "max_tokens": 20}), (40, {"n": 1, "min_tokens": 1, "max_tokens": 1})),
    ((200, {"n": 4, "min_tokens": 10, "max_tokens": 10}), (2, {"n": 6, "min_tokens": 250, "max_tokens": 250})),
], ids=["a cap of one joins", "ended rows are carried past the context"])
def test_steps_as_a_cuda_graph_takes_them_allow_any_other_rows(engine, monkeypatch, first, second):
    monkeypatch.setattr("bon.engines.local.decoder._captures", lambda model: True)
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    requests = [Request(prompt_ids=tuple(range(1, length + 1)), settings=Settings(seed=5, **settings))
                for length, settings in (first, second)]
    alone = [facts(flow.run(request, endless, CallableScorer(by_length))) for request in requests]
    writing = flow.stream(requests[0], endless, CallableScorer(by_length))
    for _ in range(4):
        next(writing)
    joined = facts(flow.run(requests[1], endless, CallableScorer(by_length)))
    assert [facts(list(writing)[-1].result), joined] == alone


def test_a_long_prompt_that_joins_does_not_widen_the_cache_of_other_rows(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    writing = flow.stream(make_request(0, n=6, min_tokens=30, max_tokens=30), endless, CallableScorer(by_length))
    for _ in range(6):
        next(writing)
    long = Request(prompt_ids=tuple(range(1, 201)), settings=Settings(n=1, seed=1, min_tokens=20, max_tokens=20))
    joining = flow.stream(long, endless, CallableScorer(by_length))
    for _ in range(6):
        next(joining)
    batch = scheduler.scheduler_of(endless.model)._batch
    assert len(batch.candidates) == 7
    assert batch.decoder.cache.room < 60
    joining.close(), writing.close()


def test_a_closed_stream_has_no_rows_in_later_steps(engine):
    stream = flow.stream(make_request(1, n=9, min_tokens=30, max_tokens=30), engine, CallableScorer(by_length))
    for _ in range(6):
        next(stream)
    stream.close()
    with ForwardShapes(engine.model) as passes:
        run(engine, 2, n=3)
    assert {rows for rows, length in passes.rows if length == 1} <= {1, 2, 3}


def test_a_failed_step_fails_every_run_of_the_batch_and_the_next_run_works(engine):
    broken = []

    def breaking(_, args, kwargs):
        if broken and kwargs["input_ids"].shape[1] == 1:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        time.sleep(0.002)

    handle = engine.model.register_forward_pre_hook(breaking, with_kwargs=True)
    broken.append(True)
    errors = run_together(*(lambda i=i: run(engine, i) for i in range(3)))
    handle.remove()
    assert all(isinstance(error, RuntimeError) for error in errors)
    assert run(engine, 0)


def test_the_run_that_causes_a_failure_fails_alone(engine, monkeypatch):
    alone, shape, draws = [run(engine, i) for i in range(4)], decoding_batch.shape, []

    def failing(logits, sampling, occurred):
        draws.append(sampling.top_k)
        if sampling.top_k == 7 and draws.count(7) > 3:  # by then they write together
            raise RuntimeError("probability tensor contains either inf, nan or element < 0")
        return shape(logits, sampling, occurred)

    monkeypatch.setattr(decoding_batch, "shape", failing)
    with ForwardShapes(engine.model, slow=0.002) as passes:
        results = run_together(*(lambda i=i: run(engine, i) for i in range(4)), lambda: run(engine, 4, top_k=7))
    assert results[:4] == alone
    assert isinstance(results[4], RuntimeError)
    assert max(rows for rows, length in passes.rows if length == 1) > 9  # they had begun together
    assert run_together(*(lambda i=i: run(engine, i) for i in range(4))) == alone


@pytest.mark.parametrize("name", ["temperature", "top_p", "softness", "repetition_penalty"])
@pytest.mark.parametrize("value", [5e-324, 1e-320, 1e-31, 1e31, 1e300])
def test_settings_that_float32_takes_for_0_or_infinity_are_refused(name, value):
    with pytest.raises(InputError) as error:
        Settings(**{name: value})
    assert error.value.field == name


@pytest.mark.parametrize("settings", [{"temperature": 1e-30, "top_p": 1e-30}, {"temperature": 1e30, "top_p": 0.9},
                                      {"top_p": 1e-30, "top_k": 3}, {"repetition_penalty": 1e-30},
                                      {"repetition_penalty": 1e30},
                                      {"temperature": 1e-30, "select": "soft", "softness": 1e-30}])
def test_the_smallest_and_largest_settings_work(engine, settings):
    assert len(run(engine, 3, **settings)) == 8


def test_a_failed_prefill_fails_only_its_own_run(engine):
    alone = run(engine, 2, n=6, min_tokens=60, max_tokens=60)

    def refusing(_, args, kwargs):
        if kwargs["input_ids"].shape[1] == len(engine.encode(make_request(1)).ids):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        time.sleep(0.002)

    handle = engine.model.register_forward_pre_hook(refusing, with_kwargs=True)
    writing = flow.stream(make_request(2, n=6, min_tokens=60, max_tokens=60), engine, CallableScorer(by_length))
    events = [next(writing) for _ in range(12)]
    with pytest.raises(RuntimeError, match="mat1"):
        run(engine, 1)
    events += list(writing)
    handle.remove()
    assert facts(events[-1].result) == alone


def test_out_of_memory_in_a_shared_batch_continues_with_fewer_rows(engine):
    alone = [run(engine, i) for i in range(4)]

    def limit_memory(_, args, kwargs):
        if len(kwargs["input_ids"]) > 6:
            raise torch.OutOfMemoryError("out of memory")

    handle = engine.model.register_forward_pre_hook(limit_memory, with_kwargs=True)
    results = run_together(*(lambda i=i: run(engine, i) for i in range(4)))
    handle.remove()
    assert results == alone


def test_out_of_memory_with_a_single_row_is_an_error_for_every_run(engine):
    def run_out_of_memory(*_):
        raise torch.OutOfMemoryError("out of memory")

    handle = engine.model.register_forward_pre_hook(run_out_of_memory)
    errors = run_together(*(lambda i=i: run(engine, i) for i in range(2)))
    handle.remove()
    assert all(isinstance(error, EngineError) for error in errors)


def test_a_prefill_that_runs_out_of_memory_fails_only_its_own_run(engine):
    """The caller behind it, with a longer prompt, does not fail."""
    huge, longer = (Request(prompt_ids=tuple(range(1, length)), settings=Settings(n=2, seed=1, max_tokens=8))
                    for length in (100, 120))
    alone = facts(flow.run(longer, engine, CallableScorer(by_length)))

    def run_out_of_memory(_, args, kwargs):
        time.sleep(0.05)  # in which the other call arrives
        if kwargs["input_ids"].shape[1] == len(huge.prompt_ids):
            raise torch.OutOfMemoryError("out of memory")

    handle = engine.model.register_forward_pre_hook(run_out_of_memory, with_kwargs=True)
    error, texts = run_together(*(
        lambda request=request: facts(flow.run(request, engine, CallableScorer(by_length)))
        for request in (huge, longer)
    ))
    handle.remove()
    assert isinstance(error, EngineError)
    assert texts == alone


def test_a_stream_that_is_read_slowly_does_not_delay_other_runs(engine):
    reading = flow.stream(make_request(3, n=4, min_tokens=20, max_tokens=20), engine, CallableScorer(by_length))
    next(reading), next(reading)
    assert run(engine, 2)
    ended = [event for event in reading if isinstance(event, Ended)]
    assert len(ended) == 4


def test_a_model_that_is_no_longer_used_is_freed():
    model = tiny.gpt2()
    engine = LocalEngine(model, tiny.tokenizer())
    assert run(engine, 0)
    reference = weakref.ref(model)
    del model, engine
    gc.collect()
    assert reference() is None


def test_the_scheduler_keeps_nothing_after_a_run(engine):
    run(engine, 0)
    model_scheduler = scheduler.scheduler_of(engine.model)
    assert model_scheduler._batch is None
    assert model_scheduler._callers == []


def test_nested_compute_does_not_wait_for_the_lock():
    with running.caller(), running.caller():
        assert running.compute(lambda: running.compute(lambda: 7)) == 7
        with pytest.raises(ZeroDivisionError):
            running.compute(lambda: 1 / 0)
    assert running.compute(lambda: running.compute(lambda: 8)) == 8


def test_work_within_work_ends_also_where_a_second_caller_comes_meanwhile():
    def work() -> int:
        with running.caller(), running.caller():
            return running.compute(lambda: 9)

    results: list[int] = []
    with running.caller():
        thread = threading.Thread(target=lambda: results.append(running.compute(work)), daemon=True)
        thread.start()
        thread.join(30)
        assert results == [9]


def test_jobs_of_one_call_and_of_several_calls_keep_their_numbers(engine):
    jobs = [Job(engine.encode(make_request(i)).ids, (9, 9), make_request(i, seed=3)) for i in range(3)]

    def generated(*jobs_of_call):
        steps = engine.generate(jobs_of_call)
        return sorted((number, c.token_ids) for step in steps for number, cs in step.ended.items() for c in cs)

    assert generated(*jobs) == sorted((number, ids) for number, job in enumerate(jobs) for _, ids in generated(job))
