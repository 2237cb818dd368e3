"""The thread that beats a worker's heart while its main thread works."""

import threading
from collections.abc import Callable

from farm.life import Life


class Heart(threading.Thread):
    """Beats, and calls `also` after each beat, every `interval` seconds.

    `also` must be short. An OSError (a full disk, say) is handed to `trouble`,
    and the next beat is tried all the same.
    """

    def __init__(
        self,
        life: Life,
        interval: float,
        also: Callable[[], None],
        trouble: Callable[[OSError], None],
    ) -> None:
        super().__init__(name="farm-heart", daemon=True)
        self._life = life
        self._interval = interval
        self._also = also
        self._trouble = trouble
        self._over = threading.Event()

    def run(self) -> None:
        """Until `end`."""
        while not self._over.wait(self._interval):
            try:
                self._life.beat()
                self._also()
            except OSError as error:
                self._trouble(error)

    def end(self) -> None:
        """Beat no more; returns when the thread is over."""
        self._over.set()
        if self.ident is not None:
            self.join()
