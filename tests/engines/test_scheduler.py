"""Many users, one model: together as alone, and nobody touches anybody else's run."""

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


def request(i=0, **settings):
    return Request(PROMPTS[i % 8], Settings(**{"n": 5 + i, "seed": i, "min_tokens": 3, "max_tokens": 30} | settings))


def facts(result):
    return [(c.index, c.token_ids, c.ended, c.text) for c in sorted(result.candidates, key=lambda c: c.index)]


def run(engine, i, **settings):
    return facts(flow.run(request(i, **settings), engine, CallableScorer(by_length)))


def together(*calls):
    """What each call gives, all of them at once in threads."""
    found, start = [None] * len(calls), threading.Barrier(len(calls))

    def call(number):
        start.wait()
        try:
            found[number] = calls[number]()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return found


class Widths:
    """The rows of each forward pass while it is open; `slow` makes each pass take a while."""

    def __init__(self, model, slow=0.0):
        self.model, self.slow, self.rows = model, slow, []

    def __enter__(self):
        self.handle = self.model.register_forward_pre_hook(self._seen, with_kwargs=True)
        return self

    def _seen(self, _, args, kwargs):
        self.rows.append(kwargs["input_ids"].shape)
        time.sleep(self.slow)

    def __exit__(self, *_):
        self.handle.remove()


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 20}, {"reject": 0.5}])
def test_eight_at_once_get_what_each_gets_alone(engine, settings):
    alone = [run(engine, i, **settings) for i in range(8)]
    with Widths(engine.model, slow=0.002) as passes:
        assert together(*(lambda i=i: run(engine, i, **settings) for i in range(8))) == alone
    # They were decoded together: more rows in one pass than the largest call has.
    assert max(rows for rows, length in passes.rows if length == 1) > 12


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 20}, {"reject": 0.5}])
def test_steps_as_a_cuda_graph_takes_them_write_the_same_texts(engine, settings, monkeypatch):
    expected = [run(engine, i, **settings) for i in range(8)]
    monkeypatch.setattr("bon.engines.local.decoder._captures", lambda model: True)
    with Widths(engine.model) as passes:
        assert [run(engine, i, **settings) for i in range(8)] == expected
    # Rows that ended are carried along, so few shapes occur: each would be captured anew.
    assert len({rows for rows, length in passes.rows if length == 1}) < 20
    assert together(*(lambda i=i: run(engine, i, **settings) for i in range(8))) == expected


def test_users_with_settings_of_their_own_share_a_batch(engine):
    own = [{"temperature": 0.5}, {"top_p": 0.6}, {"top_k": 3}, {"temperature": 1.6, "n": 20}, {}]
    alone = [run(engine, i, **settings) for i, settings in enumerate(own)]
    assert together(*(lambda i=i: run(engine, i, **own[i]) for i in range(5))) == alone


def test_engines_of_one_model_share_it_with_their_own_ends_and_names(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    alone = [run(engine, 1), run(endless, 1)]
    assert alone[0] != alone[1]
    assert together(lambda: run(engine, 1), lambda: run(endless, 1)) == alone


def test_a_late_comer_joins_the_batch_and_changes_nothing(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    alone = [run(endless, 0, n=6, min_tokens=60, max_tokens=60), run(endless, 1)]
    with Widths(engine.model) as passes:
        stream = flow.stream(request(0, n=6, min_tokens=60, max_tokens=60), endless, CallableScorer(by_length))
        events = [next(stream) for _ in range(20)]
        late = run(endless, 1)  # within this thread: the one that asks makes the steps for both
        events += list(stream)
    assert [facts(events[-1].result), late] == alone
    widths = [rows for rows, length in passes.rows if length == 1]
    assert widths[0] == 6
    assert max(widths) == 12


def test_a_batch_for_a_file_meets_nobody_elses_rows(engine):
    """Then what else runs cannot turn a near-tie, and the same file gives the same result."""
    rows = [request(i, n=4, min_tokens=8, max_tokens=8) for i in range(2)]
    with Widths(engine.model) as passes:
        stream = flow.stream(request(0, n=7, min_tokens=60, max_tokens=60), engine, CallableScorer(by_length))
        for _ in range(20):
            next(stream)
        flow.run_many(rows, engine, CallableScorer(by_length))
        list(stream)
    assert max(count for count, length in passes.rows if length == 1) == 8


def test_long_and_short_prompts_join_each_other(engine, monkeypatch):
    monkeypatch.setattr("bon.engines.local.prefix_cache.FEW", 20)
    alone = [run(engine, i, n=4) for i in range(8)]
    assert together(*(lambda i=i: run(engine, i, n=4) for i in range(8))) == alone


def test_a_prompt_that_breaks_the_models_numbers_fails_nobody_else(engine):
    alone = run(engine, 0), run(engine, 2)
    poison = engine.encode(request(3)).ids[-1]
    assert not any(poison in engine.encode(request(i)).ids for i in (0, 2))

    def overflow(_, args, kwargs, out):
        ids = kwargs["input_ids"]
        if ids.shape[1] > 1:
            out.logits[(ids == poison).any(-1)] = torch.nan

    handle = engine.model.register_forward_hook(overflow, with_kwargs=True)
    try:
        first, second, third = together(*(lambda i=i: run(engine, i) for i in (0, 3, 2)))
    finally:
        handle.remove()
    assert (first, third) == alone
    assert isinstance(second, EngineError)
    assert "logits" in second.message


def test_one_users_stop_leaves_the_others_alone(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    alone = run(endless, 2, n=7, min_tokens=40, max_tokens=40)
    stopped = threading.Event()

    def stopping():
        events = flow.stream(request(1, n=9, min_tokens=90, max_tokens=90), endless, CallableScorer(by_length))
        with closing(events):
            for event in events:
                if isinstance(event, Wrote) and event.rows[0].tokens == 12:
                    break
        stopped.set()

    with Widths(engine.model, slow=0.002) as passes:
        found = together(stopping, lambda: run(endless, 2, n=7, min_tokens=40, max_tokens=40))
    assert stopped.is_set()
    assert found[1] == alone
    # The rows of the one who stopped are gone: the last passes hold the other's alone.
    assert passes.rows[-1] == (7, 1)


def test_who_leaves_while_anothers_prompt_is_read_takes_the_random_numbers_along(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    alone, reading = run(endless, 3, n=4, min_tokens=60, max_tokens=60), threading.Event()

    def slowly(_, args, kwargs):
        if kwargs["input_ids"].shape[1] == len(endless.encode(request(3)).ids):
            reading.set()
            time.sleep(0.3)

    leaving = flow.stream(request(0, n=6, min_tokens=12, max_tokens=12), endless, CallableScorer(by_length))
    for _ in range(8):
        next(leaving)
    handle = endless.model.register_forward_pre_hook(slowly, with_kwargs=True)
    found = together(lambda: run(endless, 3, n=4, min_tokens=60, max_tokens=60),
                     lambda: (reading.wait(60), leaving.close()))
    handle.remove()
    assert found[0] == alone


@pytest.mark.parametrize(("first", "second"), [
    ((2, {"n": 8, "min_tokens": 20, "max_tokens": 20}), (40, {"n": 1, "min_tokens": 1, "max_tokens": 1})),
    ((200, {"n": 4, "min_tokens": 10, "max_tokens": 10}), (2, {"n": 6, "min_tokens": 250, "max_tokens": 250})),
], ids=["a cap of one joins", "ended rows are carried past the context"])
def test_steps_as_a_cuda_graph_takes_them_bear_any_company(engine, monkeypatch, first, second):
    monkeypatch.setattr("bon.engines.local.decoder._captures", lambda model: True)
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    asked = [Request(prompt_ids=tuple(range(1, length + 1)), settings=Settings(seed=5, **settings))
             for length, settings in (first, second)]
    alone = [facts(flow.run(request, endless, CallableScorer(by_length))) for request in asked]
    writing = flow.stream(asked[0], endless, CallableScorer(by_length))
    for _ in range(4):
        next(writing)
    joined = facts(flow.run(asked[1], endless, CallableScorer(by_length)))
    assert [facts(list(writing)[-1].result), joined] == alone


def test_a_long_prompt_that_joins_makes_nobodys_memory_wider(engine):
    endless = LocalEngine(engine.model, engine.tokenizer, rules=Rules())
    writing = flow.stream(request(0, n=6, min_tokens=30, max_tokens=30), endless, CallableScorer(by_length))
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


def test_nobody_works_for_a_stream_that_was_closed(engine):
    stream = flow.stream(request(1, n=9, min_tokens=30, max_tokens=30), engine, CallableScorer(by_length))
    for _ in range(6):
        next(stream)
    stream.close()
    with Widths(engine.model) as passes:
        run(engine, 2, n=3)
    assert {rows for rows, length in passes.rows if length == 1} <= {1, 2, 3}


def test_a_failure_reaches_everybody_in_the_batch_and_the_next_run_works(engine):
    broken = []

    def breaking(_, args, kwargs):
        if broken and kwargs["input_ids"].shape[1] == 1:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        time.sleep(0.002)

    handle = engine.model.register_forward_pre_hook(breaking, with_kwargs=True)
    broken.append(True)
    found = together(*(lambda i=i: run(engine, i) for i in range(3)))
    handle.remove()
    assert all(isinstance(error, RuntimeError) for error in found)
    assert run(engine, 0)


def test_who_is_at_fault_in_a_batch_fails_alone(engine, monkeypatch):
    alone, shape, draws = [run(engine, i) for i in range(4)], decoding_batch.shape, []

    def failing(logits, sampling):
        draws.append(sampling.top_k)
        if sampling.top_k == 7 and draws.count(7) > 3:  # by then they write together
            raise RuntimeError("probability tensor contains either inf, nan or element < 0")
        return shape(logits, sampling)

    monkeypatch.setattr(decoding_batch, "shape", failing)
    with Widths(engine.model, slow=0.002) as passes:
        found = together(*(lambda i=i: run(engine, i) for i in range(4)), lambda: run(engine, 4, top_k=7))
    assert found[:4] == alone
    assert isinstance(found[4], RuntimeError)
    assert max(rows for rows, length in passes.rows if length == 1) > 9  # they had begun together
    assert together(*(lambda i=i: run(engine, i) for i in range(4))) == alone


@pytest.mark.parametrize("name", ["temperature", "top_p", "softness"])
@pytest.mark.parametrize("value", [5e-324, 1e-320, 1e-31, 1e31, 1e300])
def test_settings_that_float32_takes_for_0_or_infinity_are_refused(name, value):
    with pytest.raises(InputError) as error:
        Settings(**{name: value})
    assert error.value.field == name


@pytest.mark.parametrize("settings", [{"temperature": 1e-30, "top_p": 1e-30}, {"temperature": 1e30, "top_p": 0.9},
                                      {"top_p": 1e-30, "top_k": 3}, {"temperature": 1e-30, "select": "soft",
                                                                    "softness": 1e-30}])
def test_the_least_and_the_most_of_settings_work(engine, settings):
    assert len(run(engine, 3, **settings)) == 8


def test_a_prompt_that_cannot_be_read_fails_alone(engine):
    alone = run(engine, 2, n=6, min_tokens=60, max_tokens=60)

    def refusing(_, args, kwargs):
        if kwargs["input_ids"].shape[1] == len(engine.encode(request(1)).ids):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        time.sleep(0.002)

    handle = engine.model.register_forward_pre_hook(refusing, with_kwargs=True)
    writing = flow.stream(request(2, n=6, min_tokens=60, max_tokens=60), engine, CallableScorer(by_length))
    events = [next(writing) for _ in range(12)]
    with pytest.raises(RuntimeError, match="mat1"):
        run(engine, 1)
    events += list(writing)
    handle.remove()
    assert facts(events[-1].result) == alone


def test_out_of_memory_together_goes_on_with_fewer_at_a_time(engine):
    alone = [run(engine, i) for i in range(4)]

    def small(_, args, kwargs):
        if len(kwargs["input_ids"]) > 6:
            raise torch.OutOfMemoryError("out of memory")

    handle = engine.model.register_forward_pre_hook(small, with_kwargs=True)
    found = together(*(lambda i=i: run(engine, i) for i in range(4)))
    handle.remove()
    assert found == alone


def test_out_of_memory_with_one_text_is_an_error_for_all(engine):
    def none(*_):
        raise torch.OutOfMemoryError("out of memory")

    handle = engine.model.register_forward_pre_hook(none)
    found = together(*(lambda i=i: run(engine, i) for i in range(2)))
    handle.remove()
    assert all(isinstance(error, EngineError) for error in found)


def test_a_prompt_that_memory_has_no_room_for_fails_alone(engine):
    """Who waits behind it, with a longer prompt, is not at fault."""
    huge, longer = (Request(prompt_ids=tuple(range(1, length)), settings=Settings(n=2, seed=1, max_tokens=8))
                    for length in (100, 120))
    alone = facts(flow.run(longer, engine, CallableScorer(by_length)))

    def none(_, args, kwargs):
        time.sleep(0.05)  # in which the other comes
        if kwargs["input_ids"].shape[1] == len(huge.prompt_ids):
            raise torch.OutOfMemoryError("out of memory")

    handle = engine.model.register_forward_pre_hook(none, with_kwargs=True)
    error, found = together(*(
        lambda asked=asked: facts(flow.run(asked, engine, CallableScorer(by_length))) for asked in (huge, longer)))
    handle.remove()
    assert isinstance(error, EngineError)
    assert found == alone


def test_a_slow_reader_holds_nobody_up(engine):
    reading = flow.stream(request(3, n=4, min_tokens=20, max_tokens=20), engine, CallableScorer(by_length))
    next(reading), next(reading)
    assert run(engine, 2)
    ended = [event for event in reading if isinstance(event, Ended)]
    assert len(ended) == 4


def test_a_model_is_let_go_of_when_nobody_uses_it():
    model = tiny.gpt2()
    engine = LocalEngine(model, tiny.tokenizer())
    assert run(engine, 0)
    gone = weakref.ref(model)
    del model, engine
    gc.collect()
    assert gone() is None


def test_after_a_run_the_pool_keeps_nothing(engine):
    run(engine, 0)
    kept = scheduler.scheduler_of(engine.model)
    assert kept._batch is None
    assert kept._callers == []


def test_work_within_work_waits_for_nobody():
    with running.caller(), running.caller():
        assert running.compute(lambda: running.compute(lambda: 7)) == 7
        with pytest.raises(ZeroDivisionError):
            running.compute(lambda: 1 / 0)
    assert running.compute(lambda: running.compute(lambda: 8)) == 8


def test_jobs_of_one_call_and_of_another_keep_their_numbers(engine):
    jobs = [Job(engine.encode(request(i)).ids, (9, 9), request(i, seed=3)) for i in range(3)]

    def ended(*asked):
        found = [(number, c.token_ids) for s in engine.generate(asked) for number, cs in s.ended.items() for c in cs]
        return sorted(found)

    assert ended(*jobs) == sorted((number, ids) for number, job in enumerate(jobs) for _, ids in ended(job))
