"""A preference as a source publishes it, before its media are read and before it is checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from r1reward.errors import DataError
from r1reward.types import PreferencePair, Slot


@dataclass(frozen=True)
class RawPair:
    """What an importer yields, one for each pair of its source; nothing of it is trusted yet.

    ``images`` are encoded bytes or paths below the media root, in the order they are shown; ``video``
    is a folder of frames below it, shown after them. ``elsewhere`` gives an image's path another to try
    if no file is there. ``preferred`` None is a tie. ``origin`` names file and row; ``meta`` is whatever
    else is worth keeping, as JSON values; ``notes`` say how the pair was read, for the report to count.
    """

    origin: str
    question: str
    response_1: str
    response_2: str
    preferred: Slot | None
    images: tuple[bytes | str, ...] = ()
    video: str | None = None
    source: str = ""
    category: str = ""
    group: str = ""
    meta: Mapping[str, object] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def pair(self, images: tuple[bytes, ...]) -> PreferencePair:
        """Returns the pair with its images read. A tie is none."""
        assert self.preferred is not None
        return PreferencePair(
            self.question,
            images,
            self.response_1,
            self.response_2,
            self.preferred,
            self.source,
            self.category,
            self.group,
            origin=self.origin,
        )


# What an importer yields. A row that is no pair is an error that names it.
RawPairs = Iterator[RawPair | DataError]
