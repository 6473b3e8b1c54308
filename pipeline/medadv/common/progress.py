"""Who is told how far the work is?"""

from collections.abc import Callable

# Called with a phase ("inputs", "shards", "message"), done, in all, and what to show beside. A message is a line of its own.
Progress = Callable[[str, int, int, str], None]
