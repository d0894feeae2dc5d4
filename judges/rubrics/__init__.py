"""The shipped rubrics: one text file for each judge, whose name it has.

A rubric says what a grade from 1 to 9 means, for one answer by itself; the protocols put it first and say the rest. A
recipe can name another file in its place. The rule that must not break: what a judge is asked is these words and the
protocol's, and both are in the judge's digest.
"""

from importlib.resources import files


def shipped(name: str) -> str:
    """The rubric that comes with the judge of that name, without white space around it."""
    return files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8").strip()
