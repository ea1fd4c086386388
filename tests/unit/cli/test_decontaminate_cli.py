"""`r1reward data decontaminate`: planted leaks go, everything else stays, wrong input is one sentence."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from r1reward.cli.main import main
from r1reward.data.stores.store import iter_pairs, write_pairs
from r1reward.shapes.pairs import make_pairs
from r1reward.types import PreferencePair

BENCHMARK = make_pairs("heldout", 20, seed=3)
CLEAN = make_pairs("train", 30, seed=4)


def as_jpeg(encoded: bytes, scale: float) -> bytes:
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    smaller = image.resize((int(image.width * scale), int(image.height * scale)))
    buffer = io.BytesIO()
    smaller.save(buffer, format="JPEG", quality=70)
    return buffer.getvalue()


VERBATIM = BENCHMARK[0]
REWORDED = replace(
    BENCHMARK[1],
    question=BENCHMARK[1].question.upper() + "  ",
    response_1=f" {BENCHMARK[1].response_1.replace(' ', '  ')}",
)
REENCODED = replace(CLEAN[0], images=(as_jpeg(BENCHMARK[2].images[0], 1.5),))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    write_pairs(path, [VERBATIM, *CLEAN, REWORDED, REENCODED])
    return path


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    path = tmp_path / "benchmark.parquet"
    write_pairs(path, [replace(pair, source="held out") for pair in BENCHMARK])
    return path


def texts(pair: PreferencePair) -> tuple[str, str, str]:
    return pair.question, pair.response_1, pair.response_2


def test_planted_leaks_go_and_the_report_says_where(
    store: Path, benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clean"
    arguments = ["--against", f"pairs={benchmark}", "--out", str(out)]
    assert main(["data", "decontaminate", str(store), *arguments]) == 0
    kept = list(iter_pairs(out))
    assert [texts(pair) for pair in kept] == [texts(pair) for pair in CLEAN]
    assert [pair.images for pair in kept] == [pair.images for pair in CLEAN]
    report = json.loads((out / "report.json").read_text())
    assert report["leaks"]["num_leaking"] == 3
    assert report["leaks"]["num_rows_leaked"] == {"held out": 3}
    examples = report["leaks"]["examples"]
    assert [e["leak"]["origin"] for e in examples["exact-text"]] == [
        f"{benchmark} row 1",
        f"{benchmark} row 2",
    ]
    assert [e["leak"]["origin"] for e in examples["near-image"]] == [f"{benchmark} row 3"]
    assert "held out: 3 of its rows leaked" in capsys.readouterr().out


def test_without_images_texts_alone_decide(store: Path, benchmark: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean"
    arguments = ["--against", f"pairs={benchmark}", "--image", "off", "--out", str(out)]
    assert main(["data", "decontaminate", str(store), *arguments]) == 0
    images = [pair.images for pair in iter_pairs(out)]
    assert REENCODED.images in images
    assert VERBATIM.images not in images


def test_a_published_benchmark_needs_no_images_for_its_texts(store: Path, tmp_path: Path) -> None:
    row = {
        "id": "wildvision-1",
        "prompt": CLEAN[5].question,
        "chosen": CLEAN[5].response_1,
        "rejected": CLEAN[5].response_2,
        "image": "gone.png",
    }
    (tmp_path / "bench.jsonl").write_text(json.dumps(row) + "\n")
    out = tmp_path / "clean"
    spec = f"vl-rewardbench={tmp_path / 'bench.jsonl'}"
    arguments = ["--against", spec, "--image", "off", "--out", str(out)]
    assert main(["data", "decontaminate", str(store), *arguments]) == 0
    assert texts(CLEAN[5]) not in [texts(pair) for pair in iter_pairs(out)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "pairs"], "--against: 'pairs' is not of the form NAME=PATH"),
        (["--against", "pairs=GONE"], "GONE"),
        (["--against", "mmlu=GONE"], "no benchmark is called 'mmlu'"),
        (["--against", "pairs=GONE", "--image", "off", "--text", "off"], "are both off"),
    ],
)
def test_wrong_input_is_one_sentence(
    store: Path,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [argument.replace("GONE", str(tmp_path / "gone")) for argument in arguments]
    status = main(["data", "decontaminate", str(store), *filled, "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1
    assert message.replace("GONE", str(tmp_path / "gone")) in error
    assert not (tmp_path / "out").exists()


CASES = Path(__file__).parents[2] / "cases" / "leak"


def test_a_photo_turned_upright_and_a_drawing_put_on_white_are_found(tmp_path: Path) -> None:
    """The benchmark has a photo with an orientation tag, a transparent drawing, and a plain photo; the
    training set has them upright, flattened, and encoded again.
    """
    columns = "question=prompt,response_1=chosen,response_2=rejected,preferred=1,image=image"
    stores = {name: tmp_path / name for name in ("train", "bench")}
    for name, store in stores.items():
        source = [str(CASES / f"{name}.jsonl"), "--columns", columns, "--out", str(store)]
        assert main(["data", "import", "jsonl", *source]) == 0
    out = tmp_path / "clean"
    against = ["--against", f"pairs={stores['bench']}", "--out", str(out)]
    main(["data", "decontaminate", str(stores["train"]), *against])
    leaks = json.loads((out / "report.json").read_text())["leaks"]
    assert leaks["num_leaking"] == 3
    found = [example for examples in leaks["examples"].values() for example in examples]
    rows = {(one["pair_origin"][-1], one["leak"]["origin"][-1]) for one in found}
    assert rows == {("1", "1"), ("2", "2"), ("3", "3")}
