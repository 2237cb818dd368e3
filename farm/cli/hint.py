"""A line on stderr when nothing can happen, for verbs that wait for something."""

from collections.abc import Sequence

import click

from farm.report import Report, Survey
from farm.words import plain

PATIENCE = 1.0  # seconds for which nothing can happen, before that is said


class Hint:
    """Says on stderr why nothing happens, once for each reason."""

    def __init__(
        self, survey: Survey, own: str | None = None, patience: float = PATIENCE
    ) -> None:
        """`own` is the worker that runs the task inside which we wait."""
        self._survey, self._own, self._patience = survey, own, patience
        self._said, self._since = "", float("inf")

    def tell(self, report: Report, tick: float, left: Sequence[str] = ()) -> None:
        """Tell it when it has been so for a moment: a worker may be starting.

        `left` is what somebody waits for.
        """
        why = self._why(report, left)
        if not why:
            self._said = ""
        if not why or why == self._said:
            self._since = float("inf")
            return
        self._since = min(self._since, tick)
        if tick - self._since >= self._patience:
            self._said = why
            click.echo(why, err=True)

    def _why(self, report: Report, left: Sequence[str]) -> str:
        if not any(w.alive and w.name != self._own for w in report.workers):
            other = "other " if self._own else ""
            return f"no {other}worker is running here: farm supervise, or farm worker"
        waits = [self._survey.waits(i) for i in left]
        stuck = [w for w in waits if w is not None and w.until is None]
        if report.pending or not left or len(stuck) < len(left):
            return ""
        more = f" and {len(stuck) - 1} more" if len(stuck) > 1 else ""
        first = f"{plain(stuck[0].id)}{more}: {plain(stuck[0].why)}"
        return f"nothing of this can start: {first}"
