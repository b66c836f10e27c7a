"""The table of peers: what its cells are measured from, and what an empty one says."""

import json
import platform

import pytest

from bon.bench import peer_table, random_models, waiting_times
from bon.cli.main import main
from tests.bench.test_speed_table import TINY

PEERS = [peer for peer in peer_table.PEERS if peer.program in ("transformers", "ctranslate2", "openvino")]
BROKEN = peer_table.Peer("broken", "transformers", ("int9",), "torch", "never")


@pytest.fixture(scope="module")
def lines():
    """The lines that the command prints of a tiny model beside transformers, as JSON objects."""
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as out:
        patch.setattr(random_models, "SIZES", {"gpt2-small": TINY["tiny"]})
        patch.setattr(peer_table, "PEERS", [*PEERS, BROKEN])
        model = peer_table.MODELS["gpt2-small"]
        patch.setitem(peer_table.MODELS, "gpt2-small",
                      peer_table.Model(model.title, ((3, 4), (2, 5)), (3, 6), model.parts, scores=True))
        printed = []
        out.setattr("bon.cli.bench_command.print_json", lambda value, flush=False: printed.append(value))
        assert main(["bench", "--peers", "--only", "gpt2-small", "--turns", "2", "--isa", "avx2", "--dtype", "float32",
                     "--json"]) == 0
        yield json.loads(json.dumps(printed))


def test_each_program_has_a_cell_for_each_part_of_each_work(lines):
    cells = [peer_table.Cell(**line) for line in lines[:-1]]
    places = [(cell.program, cell.n, cell.prompt, cell.part) for cell in cells]
    assert sorted(places) == sorted((program, n, prompt, part) for program in ("bon", "transformers")
                                    for n, prompt in ((3, 4), (2, 5)) for part in ("write", "score", "total"))
    for cell in cells:
        assert cell.turns == 2
        assert 0 < cell.lowest <= cell.ratio <= cell.highest
        assert (cell.ratio == 1) == (cell.program == "bon")
        assert cell.rate == pytest.approx(cell.n * 9 / cell.seconds)


def test_the_record_says_what_the_table_stands_on_and_why_a_cell_is_empty(lines):
    record = lines[-1]
    assert set(record["versions"]) == {"bon", "transformers"}
    assert record["peak_memory"]["bon (float32)"] > 100 * 2**20
    empty = record["empty"]
    assert empty["CTranslate2"].startswith("pip install torch")
    assert "ONEDNN_MAX_CPU_ISA" in empty["OpenVINO GenAI"]
    assert "ended with status" in empty["broken (int9) at gpt2-small"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is of other processors")
def test_the_instruction_set_holds_for_both_sides(lines):
    assert set(lines[-1]["torch_uses"].values()) == {"AVX2"}


def test_without_peers_the_processor_alone_stands_below(tmp_path):
    (line,) = peer_table.PeerTable((), tmp_path).footer()
    assert line.startswith("Processor: ")


def cell(program, dtype, seconds, ratio):
    return peer_table.Cell(program, dtype, "smollm2", 8, 13, "write", seconds, 256 / seconds, ratio, ratio, ratio, 3)


def test_the_last_row_is_the_fastest_peer_but_for_four_bits(tmp_path):
    cells = [cell("bon", "int8", 0.5, 1), cell("A", "int8", 0.4, 0.8), cell("B", "q8_0", 0.7, 1.4),
             cell("B", "q4_0", 0.3, 0.6)]
    title, _, heads, ruler, *rows = peer_table.PeerTable((), tmp_path, isa="avx2").markdown("smollm2", cells)
    assert "AVX2 alone (emulated)" in title
    assert {line.count("|") for line in (heads, ruler, *rows)} == {6}
    assert rows[0] == "| bon (int8) |  | 512 |  |  |"
    assert rows[1] == "| A (int8) |  | 640 (0.80: 0.80 to 0.80) |  |  |"
    assert "0.80 (0.80 to 0.80), A" in rows[-1]


def test_parts_that_do_not_exist_are_refused_in_one_line(capsys):
    assert main(["bench", "--peers", "--only", "smollm2,gpt3"]) == 2
    err = capsys.readouterr().err
    assert "only must be one of" in err
    assert "'gpt3'" in err
    assert err.count("\n") == 1


def test_waits_are_measured_on_a_page_and_from_the_shell(app):
    whole_runs, first_words = waiting_times.runs_on_page(app.url, seeds=2, prompt="This movie", max_tokens=16)
    assert len(whole_runs) == len(first_words) == 2
    assert min(first_words) > 0
    (wait,) = waiting_times.start(turns=1)
    assert wait.lowest == wait.value == wait.highest
    assert wait.markdown().count("|") == waiting_times.HEADING.splitlines()[0].count("|")
