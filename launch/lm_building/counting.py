"""Finds repeated lines and counts words in texts that do not fit into memory."""

import hashlib
import heapq
import itertools
import operator
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_RECENT = 2**19


class LineSet:
    """A set of lines, stored as 64-bit hashes: 8 bytes per line, 16 while merging, plus some 40 MB.

    The probability of any collision among n lines is n² / 2^65: 0.03 % for 100 million.
    """

    def __init__(self, recent: int = _RECENT):
        self._limit = recent
        self._recent: set[int] = set()
        self._sorted = np.empty(0, np.uint64)

    def add(self, line: bytes) -> bool:
        """Adds a line; returns whether it is new."""
        key = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")
        if key in self._recent or self._is_sorted(key):
            return False
        self._recent.add(key)
        if len(self._recent) >= self._limit:
            recent = np.sort(np.fromiter(self._recent, np.uint64, len(self._recent)))
            self._sorted = np.concatenate([self._sorted, recent])
            self._sorted.sort(kind="stable")  # merges sorted runs
            self._recent.clear()
        return True

    def _is_sorted(self, key: int) -> bool:
        place = self._sorted.searchsorted(np.uint64(key))
        return place < len(self._sorted) and int(self._sorted[place]) == key


class Frequencies:
    """Exact word counts, with at most half a million different words in memory, the others in files."""

    def __init__(self, folder: Path, in_memory: int = _RECENT):
        self._folder, self._limit = folder, in_memory
        self._counts: Counter[str] = Counter()
        self._files: list[Path] = []

    def add(self, words: list[str]) -> None:
        """Counts the words."""
        self._counts.update(words)
        if len(self._counts) >= self._limit:
            path = self._folder / f"counts_{len(self._files)}"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(f"{word} {count}\n" for word, count in sorted(self._counts.items()))
            self._files.append(path)
            self._counts.clear()

    def most_common(self, count: int) -> list[str]:
        """The most frequent words, most frequent first; ties in Unicode order."""
        return [word for word, _ in heapq.nsmallest(count, self._totals(), key=lambda item: (-item[1], item[0]))]

    def _totals(self) -> Iterator[tuple[str, int]]:
        parts = [_read(path) for path in self._files] + [iter(sorted(self._counts.items()))]
        for word, items in itertools.groupby(heapq.merge(*parts), key=operator.itemgetter(0)):
            yield word, sum(count for _, count in items)


def _read(path: Path) -> Iterator[tuple[str, int]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            word, _, count = line.rpartition(" ")
            yield word, int(count)
