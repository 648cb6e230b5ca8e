"""Generator of the sample data: `python docs/samples/make_samples.py [DIRECTORY]`.

The seed is fixed, so every run writes the same files.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Iterator
from pathlib import Path

SEED = 20261123
# Users in each segment of users.csv. "newsletter" needs more than one request of 10,000 IDs.
SEGMENTS = {"newsletter": 18_000, "trial": 7_500, "vip": 4_500}
_ALPHABET = "0123456789abcdefghijkmnpqrstuvwxyz"
_ID_LENGTH = 10


def users(seed: int = SEED) -> Iterator[tuple[str, str]]:
    """Yield (user ID, segment) in random order, with unique IDs."""
    rng = random.Random(seed)
    segments = [segment for segment, size in SEGMENTS.items() for _ in range(size)]
    rng.shuffle(segments)
    numbers = rng.sample(range(len(_ALPHABET) ** _ID_LENGTH), len(segments))
    return zip(map(_user_id, numbers), segments, strict=True)


def _user_id(number: int) -> str:
    """Format *number* as `u_` and ten digits of the alphabet."""
    digits = []
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "u_" + "".join(reversed(digits))


def write_users(path: Path) -> None:
    """Write `users.csv`, with a header and a row for each user."""
    with path.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user_id", "segment"])
        writer.writerows(users())


def main() -> None:
    """Write every sample beside this script, or into the given directory."""
    parser = argparse.ArgumentParser(description="Write the sample data.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    directory: Path = parser.parse_args().directory
    write_users(directory / "users.csv")
    print(f"users.csv: {sum(SEGMENTS.values()):,} users in {len(SEGMENTS)} segments")


if __name__ == "__main__":
    main()
