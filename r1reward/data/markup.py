"""What is left of a model's text without emphasis, quotes and tags."""

import html
import re
import unicodedata

TAG = re.compile(r"</?[A-Za-z][\w-]*\s*/?>")
# Emphasis, code and quotes of Markdown, and characters that cannot be seen.
DECORATION = str.maketrans(
    "", "", "*_`\"'\u201c\u201d\u2018\u2019\xab\xbb$\u200b\u200c\u200d\u2060\ufeff"
)


def without_decoration(text: str) -> str:
    """Returns a text in lower case, its characters in their usual form, without emphasis and quotes."""
    usual = unicodedata.normalize("NFKC", text).translate(DECORATION).casefold()
    return " ".join(usual.split())


def has_words(text: str) -> bool:
    """Returns whether there is a letter or a digit to read: not in blanks, tags or dots alone."""
    return any(character.isalnum() for character in html.unescape(TAG.sub("", text)))
