"""Tables that the program fills into documents."""

from pathlib import Path

import pytest

from r1reward.errors import InputError
from studies.document_tables import check_marks, fill

TEXT = """\
# Head

<!-- table a -->
old
<!-- end of table -->

<!-- table b -->
<!-- end of table -->
tail
"""


def test_only_the_named_table_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(TEXT)
    fill(path, "| b |", "b")
    fill(path, "| new |\n", "a")
    assert path.read_text() == (
        "# Head\n\n<!-- table a -->\n| new |\n<!-- end of table -->\n\n"
        "<!-- table b -->\n| b |\n<!-- end of table -->\ntail\n"
    )


def test_a_document_without_the_place_is_refused_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(TEXT)
    check_marks(path, "a", "b")
    with pytest.raises(InputError, match=r"doc\.md has no <!-- table c -->"):
        check_marks(path, "a", "c")
    with pytest.raises(InputError, match="has no <!-- table a -->"):
        check_marks(tmp_path / "gone.md", "a")


def test_the_documents_of_the_repository_have_their_places() -> None:
    root = Path(__file__).parents[3]
    check_marks(root / "docs" / "pipeline.md", "stages", "selection")
    check_marks(root / "docs" / "learning.md", "")
