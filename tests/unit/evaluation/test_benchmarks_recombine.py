"""From published percentages back to whole numbers of right answers."""

import pytest

from r1reward.evaluation.benchmarks.recombine import recombine
from r1reward.evaluation.benchmarks.vl_rewardbench import PUBLISHED_COUNTS

PUBLISHED = {"general": 63.84, "hallucination": 85.71, "reasoning": 64.78}


def test_the_published_71_92_needs_the_authors_mapping() -> None:
    authors = recombine(PUBLISHED, PUBLISHED_COUNTS["authors"])
    assert authors.num_right == {"general": 309, "hallucination": 384, "reasoning": 206}
    assert all(authors.fits.values())
    assert authors.overall == 899 / 1250
    assert f"{authors.overall:.2%}" == "71.92%"


def test_the_other_mappings_cannot_have_printed_these_percentages() -> None:
    found = {name: recombine(PUBLISHED, counts) for name, counts in PUBLISHED_COUNTS.items()}
    # 117 of 183 would print as 63.93, 642 of 749 as 85.71; 403 of 631 as 63.87, 258 of 301 as 85.71.
    assert found["official"].num_right == {"general": 117, "hallucination": 642, "reasoning": 206}
    assert found["official"].fits == {"general": False, "hallucination": True, "reasoning": True}
    assert found["official"].overall == 965 / 1250
    assert found["unifiedreward"].num_right == {
        "general": 403,
        "hallucination": 258,
        "reasoning": 206,
    }
    assert found["unifiedreward"].fits == {
        "general": False,
        "hallucination": True,
        "reasoning": True,
    }
    assert found["unifiedreward"].overall == 867 / 1250


@pytest.mark.parametrize("num_right", range(0, 8))
def test_every_count_is_found_again(num_right: int) -> None:
    printed = float(f"{100 * num_right / 7:.2f}")
    found = recombine({"a": printed}, {"a": 7})
    assert (found.num_right, found.fits) == ({"a": num_right}, {"a": True})


def test_a_percentage_that_no_count_gives_does_not_fit() -> None:
    assert recombine({"a": 63.84}, {"a": 183}).fits == {"a": False}


def test_the_published_counts_are_of_1250_rows() -> None:
    assert {sum(counts.values()) for counts in PUBLISHED_COUNTS.values()} == {1250}
