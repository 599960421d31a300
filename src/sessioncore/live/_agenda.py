"""What is watched, what must be looked up, and when sessions end; no I/O and no clock of its own."""

from heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf
from weakref import ref

from sessioncore.live._session_watch import SessionWatch

__all__ = ["Agenda"]


class Agenda:
    """The watches of one event loop.

    Invariants: a key in `asked` has a watch. Of a watch's entries in `alarms`, the one whose time is
    `watch.alarm` counts; the others are outdated. These are dropped when their time comes, or all
    together when they are more than half of the heap. No entry keeps a closed connection in
    memory, with its session and the ID.
    """

    __slots__ = (
        "_begun", "_number_of_watches", "_numbers", "_taken", "alarms", "asked", "by_key", "confirming_since",
    )  # fmt: skip

    def __init__(self) -> None:
        self.by_key: dict[str, dict[SessionWatch, None]] = {}  # in the order in which they began
        self.asked: dict[str, float] = {}  # the keys to look up, and since when
        self.confirming_since = inf  # when the storage was asked to confirm that it has reported every change
        self._taken: dict[str, float] = {}  # the keys that are being looked up
        self._begun: dict[str, int] = {}  # of these, the keys to look up for new watches only, and how many these are
        self.alarms: list[tuple[float, int, ref[SessionWatch]]] = []  # a heap
        self._number_of_watches = 0
        self._numbers = count()  # so that two alarms of the same time can be compared

    def add(self, watch: SessionWatch, now: float) -> None:
        """Begin a watch, which has its key looked up; the other watches of that key know already what it holds."""
        key = watch.key
        self.by_key.setdefault(key, {})[watch] = None
        self._number_of_watches += 1
        if key not in self.asked or key in self._begun:
            self._begun[key] = self._begun.get(key, 0) + 1
        self._ask(key, now)

    def discard(self, watch: SessionWatch) -> bool:
        """End a watch, if it has not ended; return whether its key is not watched any more."""
        watches = self.by_key.get(watch.key, {})
        if watch not in watches:
            return False
        watch.set_alarm(inf)
        del watches[watch]
        self._number_of_watches -= 1
        if watches:
            return False
        del self.by_key[watch.key]
        self.asked.pop(watch.key, None)
        self._begun.pop(watch.key, None)
        return True

    def watches(self) -> list[SessionWatch]:
        """Return all watches."""
        return [watch for watches in self.by_key.values() for watch in watches]

    def ask(self, key: str, since: float) -> None:
        """Note that a key must be looked up for all of its watches; if it was asked for already, that time counts."""
        if key in self.by_key:
            self._begun.pop(key, None)
            self._ask(key, since)

    def _ask(self, key: str, since: float) -> None:
        self.asked[key] = min(since, self.asked.get(key, inf))

    def ask_all(self, since: float) -> None:
        """Note that every key must be looked up."""
        for key in self.by_key:
            self.ask(key, since)

    def take_asked(self, most: int) -> dict[str, float]:
        """Return the keys to look up now, and since when each was asked for. Remove a key when it is answered."""
        self._taken = taken = dict(islice(self.asked.items(), most))
        for key in taken:
            del self.asked[key]
        return taken

    def ask_again(self, taken: dict[str, float], later: float) -> None:
        """Put back keys that could not be looked up; move the times of all that are asked for by `later` seconds."""
        self._taken = {}
        for key, since in taken.items():
            self.ask(key, since)
        if later:
            self.asked = {key: since + later for key, since in self.asked.items()}

    def unanswered(self) -> list[tuple[SessionWatch, float]]:
        """Return the watches for which the storage must still answer, in a batch or not, and since when."""
        keys = self.by_key if self.confirming_since < inf else {**self._taken, **self.asked}
        return [(watch, self._since(key)) for key in keys for watch in self.by_key.get(key, {})]

    def _since(self, key: str) -> float:
        return min(self._taken.get(key, inf), self.asked.get(key, inf), self.confirming_since)

    def give_up(self, now: float, window: float, patience: float) -> tuple[list[SessionWatch], float]:
        """Return the watches that went unanswered for too long, each once, and when the next ones will have.

        Too long is `window`, or until the session's end, but at least `patience`.
        """
        overdue, next_due = list[SessionWatch](), inf
        for watch, since in self.unanswered():
            if watch.given_up:
                continue
            due = max(min(since + window, watch.ends_at), since + patience)
            if now < due:
                next_due = min(next_due, due)
            else:
                watch.set_given_up(True)
                overdue.append(watch)
        return overdue, next_due

    def take_watches(self, key: str) -> list[SessionWatch]:
        """Return the watches for which a key that was taken is looked up."""
        return list(islice(reversed(self.by_key.get(key, {})), self._begun.pop(key, None)))

    def has(self, watch: SessionWatch, key: str) -> bool:
        """Return whether the watch has neither ended nor moved to another key."""
        return watch in self.by_key.get(key, {})

    def set_end(self, watch: SessionWatch, ends: float) -> None:
        """Note when the session ends unless it is renewed. An alarm before that stays: it will set the next one."""
        watch.set_end(ends)
        if ends < watch.alarm:
            self._set_alarm(watch, ends)

    def next_alarm(self) -> float:
        """Return the time of the next alarm."""
        return self.alarms[0][0] if self.alarms else inf

    def ring(self, now: float) -> None:
        """Ask for the sessions whose end is due."""
        while self.alarms and self.alarms[0][0] <= now:
            alarm, _, found = heappop(self.alarms)
            if (watch := found()) is None or alarm != watch.alarm:
                continue  # outdated
            watch.set_alarm(inf)
            if watch.ends_at > now:
                self._set_alarm(watch, watch.ends_at)
            else:
                self.ask(watch.key, now)

    def _set_alarm(self, watch: SessionWatch, at: float) -> None:
        watch.set_alarm(at)
        heappush(self.alarms, (at, next(self._numbers), ref(watch)))
        if len(self.alarms) > 2 * self._number_of_watches + 64:
            self.alarms = [entry for entry in self.alarms if (one := entry[2]()) is not None and entry[0] == one.alarm]
            heapify(self.alarms)
