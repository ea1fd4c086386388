"""``r1reward data decontaminate``: stores without the pairs that benchmarks contain."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.data.action import data_verb, print_line, print_report, progress
from r1reward.cli.verb import argument, option
from r1reward.errors import InputError
from r1reward.recipe.choices import SimilarImages, SimilarTexts
from r1reward.types import PreferencePair


@dataclass(frozen=True)
class DecontaminateArguments:
    """Stores, the benchmarks that they must not contain, and what counts as contained."""

    stores: list[Path] = argument(nargs="+", metavar="DIR")
    against: list[str] = option(
        required=True,
        metavar="NAME=PATH[,IMAGES]",
        help="a benchmark: vl-rewardbench, mm-rlhf-rewardbench, multimodal-rewardbench, or pairs for "
        "a store; its file; where they are not beside it, its images; several times",
    )
    text: SimilarTexts = option(
        default="one",
        help="how many responses must be similar, beside the question",
    )
    image: SimilarImages = option(default="near")
    out: Path = option(required=True)


def run(arguments: DecontaminateArguments) -> None:
    from r1reward.data.cleaning.decontaminate import BenchmarkIndex, LeakSettings
    from r1reward.data.cleaning.leak_free import remove_leaks

    if arguments.text == arguments.image == "off":
        raise InputError("--text and --image are both off, so nothing is compared; turn one on")
    settings = LeakSettings(text=arguments.text, image=arguments.image)
    made_by: dict[str, object] = {
        "decontaminate": [str(path.resolve()) for path in arguments.stores],
        "against": arguments.against,
        "text": arguments.text,
        "image": arguments.image,
    }
    with progress("decontaminate") as on_rows:
        index = BenchmarkIndex.build(list(benchmark_rows(arguments)), settings)
        report, leaks = remove_leaks(arguments.stores, arguments.out, index, made_by, on_rows)
    print_report(report, arguments.out)
    for benchmark, keys in sorted(leaks.leaked_rows.items()):
        print_line(f"{benchmark}: {len(keys)} of its rows leaked")


def benchmark_rows(arguments: DecontaminateArguments) -> Iterator[PreferencePair]:
    """Yields the rows of every ``--against``. Raises ``InputError`` for one that cannot be read."""
    from r1reward.evaluation.benchmarks.load import comparable_rows

    for benchmark in arguments.against:
        name, _, paths = benchmark.partition("=")
        if not paths:
            raise InputError(
                f"--against: {benchmark!r} is not of the form NAME=PATH or NAME=PATH,IMAGES"
            )
        file, _, images = paths.partition(",")
        yield from comparable_rows(
            name, Path(file), Path(images) if images else None, arguments.image == "off"
        )


VERB = data_verb(
    "decontaminate",
    "leave out pairs that are in a benchmark, by text or by image, in a new store",
    run,
)
