"""A model of requests that share a session: what they may see and leave behind if each action happens at one moment.

In reality a commit, a load, a destroy or a revoke takes some time; in the model each happens at one
moment between its start and its end. `explains` tells whether some order of these moments accounts for
everything that was seen. If one does, nothing was lost, nothing came back, and no result was wrong.
"""

from copy import copy
from typing import Any, Literal

from msgspec import Struct

__all__ = ["Action", "Kept", "Request", "Snapshot", "World", "explains"]

State = Literal["fresh", "live", "ended", "gone", "stale"]
Snapshot = dict[str, tuple[dict[str, Any], str | None]]


class Action(Struct):
    """What an actor did, when it began and ended, and what came of it."""

    actor: str
    request: str
    verb: str
    start: int
    end: int = 0
    value: Any = None  # its argument
    result: Any = None  # what it returned, or what the actor saw

    def __repr__(self) -> str:
        told = "" if self.value is None else f"({self.value})"
        return f"{self.actor}:{self.verb}{told}@{self.start}-{self.end}={self.result}"


class Kept(Struct):
    """A session as it should be stored."""

    data: dict[str, Any]
    owner: str | None = None
    loose: bool = False  # the model leaves open which of its data is kept


class Request(Struct):
    """What one request sees, and what it has yet to store."""

    cookie: str | None
    state: State = "fresh"
    sid: str | None = None
    owner: str | None = None
    view: dict[str, Any] = {}
    sets: dict[str, Any] = {}
    adds: dict[str, Any] = {}  # numbers to add, and lists to append
    drops: set[str] = set()
    base: set[str] = set()  # the keys that it saw when nothing was pending
    login: bool = False
    rotate: bool = False
    cleared: bool = False
    unsure: bool = False  # it does not know the outcome of a write yet, so it may see less than is stored
    started: bool = False  # the response has started
    untold: bool = False  # it has an ID that has yet to be sent to the client

    def copy(self) -> "Request":
        made = copy(self)
        made.view, made.sets, made.adds, made.drops = dict(self.view), dict(self.sets), dict(self.adds), set(self.drops)
        return made

    def put(self, key: str, value: Any) -> None:
        self.view[key] = self.sets[key] = value
        self.drops.discard(key)
        self.adds.pop(key, None)

    def add(self, key: str, amount: Any) -> None:
        added = self.view.get(key, type(amount)()) + amount
        if key in self.sets or key in self.drops:
            self.put(key, added)
        else:
            self.view[key] = added
            self.adds[key] = self.adds.get(key, type(amount)()) + amount

    def drop(self, key: str) -> None:
        if key in self.view:
            for where in (self.view, self.sets, self.adds):
                where.pop(key, None)
            self.drops.add(key)

    def settle(self) -> None:
        """Forget what was pending: it is stored, or discarded."""
        self.sets, self.adds, self.drops, self.base, self.unsure = {}, {}, set(), set(self.view), False
        self.login = self.rotate = self.cleared = False

    def forget(self, state: State) -> None:
        self.state, self.view, self.owner, self.untold = state, {}, None, False
        self.settle()

    @property
    def writes(self) -> bool:
        return bool(self.sets or self.adds or self.login)


class World(Struct):
    """All sessions, and all requests; `follows`: the end of an ID that was just replaced ends the session."""

    follows: bool
    live: dict[str, Kept]
    requests: dict[str, Request]
    handles: dict[str, str]  # the ID that belongs to each handle
    moved: dict[str, str] = {}
    dead: set[str] = set()
    named: bool = True  # the commits tell which IDs are new; otherwise the model invents names for them

    def copy(self) -> "World":
        live = {sid: Kept(dict(kept.data), kept.owner, kept.loose) for sid, kept in self.live.items()}
        requests = {name: request.copy() for name, request in self.requests.items()}
        return World(self.follows, live, requests, self.handles, dict(self.moved), set(self.dead), self.named)

    def end(self, sid: str | None) -> bool:
        """End a session, under whichever ID it is now; tell whether there was one."""
        while self.follows and sid in self.moved:
            sid = self.moved.pop(sid)
        if sid is None or self.live.pop(sid, None) is None:
            return False
        self.dead.add(sid)
        return True

    def end_own(self, request: Request) -> None:
        if request.state in ("live", "stale"):
            self.end(request.sid)

    def happens(self, action: Action) -> bool:
        """Let an action happen now; return False if its result would have been another one."""
        request = self.requests[action.request]
        if action.result == "too late" or self.is_late(request, action.verb):
            return action.result == "too late" and self.is_late(request, action.verb)
        match action.verb:
            case "load":
                self.load(request)
            case "read":
                seen = (request.view, request.state != "live", request.owner)
                return request.unsure or bool(action.result == seen)
            case "set":
                for key in action.value:
                    request.put(key, action.value[key])
            case "delete":
                for key in action.value:
                    request.drop(key)
            case "mutate":
                request.add("count", 1)
                return request.unsure or bool(action.result == request.view["count"])
            case "append":
                request.add("items", action.value)
                return request.unsure or bool(action.result == request.view["items"])
            case "amend":  # counts as a write of the whole value
                if "items" in request.view:
                    request.put("items", request.view["items"] + action.value)
            case "regenerate":
                request.rotate = True
            case "login":
                if request.owner not in (None, action.value):
                    request.view = {}
                    request.settle()
                    request.cleared = True
                request.owner, request.login, request.rotate = action.value, True, True
            case "destroy":
                self.end_own(request)
                request.forget("ended")
            case "destroy, in the storage":
                self.end_own(request)
            case "destroy, in the request":
                request.forget("ended")
            case "revoke":
                return self.end(self.handles[action.value]) is action.result
            case "revoke all":
                theirs = [sid for sid, kept in self.live.items() if kept.owner == action.value]
                return bool(sum(self.end(sid) for sid in theirs) == action.result)
            case "reload":
                return self.reload(request) is action.result
            case "expire":
                self.dead |= self.live.keys()
                self.live.clear()
                self.moved.clear()
            case "save" | "finish" | "commit" if action.result[0] == "unavailable":
                if action.result[1]:  # the write arrived, though its reply did not
                    stored = self.store(request, gone=False)
                    request.unsure = True
                    return stored
                if action.verb != "save":
                    request.settle()
            case "save" | "finish":
                _, gone = action.result
                return self.store(request, gone=gone)
            case "fail":
                request.settle()
                return self.answers(request, action.result[0])
            case _:
                assert action.verb == "commit"
                told, gone = action.result
                return self.store(request, told, gone=gone) and self.answers(request, told)
        return True

    def answers(self, request: Request, told: str | None) -> bool:
        """Send the response; tell whether it says about the ID what it should."""
        request.started, owed, request.untold = True, request.untold, False
        if owed:
            return bool(told) and (not self.named or told == request.sid)
        return told == ("" if request.state == "ended" and request.cookie else None)

    def is_late(self, request: Request, verb: str) -> bool:
        """Whether a verb would need a new ID, which can no longer be sent to the client."""
        if not request.started:
            return False
        return verb in ("regenerate", "login") or (
            verb in ("set", "mutate", "append") and request.state in ("fresh", "ended")
        )

    def load(self, request: Request) -> None:
        kept = self.live.get(request.cookie or "")
        request.sid = request.cookie
        if kept is not None:
            request.state, request.view, request.owner = "live", dict(kept.data), kept.owner
        elif request.cookie in self.moved:
            request.state = "stale"
        request.settle()

    def reload(self, request: Request) -> bool:
        """Take over what is stored, and keep what is pending on top; tell whether SessionGone is raised."""
        if request.state != "live":
            return request.state in ("gone", "stale")
        if (kept := self.live.get(request.sid or "")) is None:
            moved = request.sid in self.moved
            if moved and request.login:
                request.state = "stale"
            else:
                request.forget("stale" if moved else "gone")
            return True
        shown = Kept(dict(kept.data), kept.owner)
        self.apply(request.copy(), shown)
        request.cleared = request.cleared or (request.login and kept.owner not in (None, request.owner))
        request.drops &= request.base
        request.base = set() if request.cleared else set(kept.data)
        request.view, request.owner = shown.data, shown.owner
        return False

    def store(self, request: Request, told: str | None = None, *, gone: bool) -> bool:
        """Store what is pending; `told` is the ID that the client was sent.

        `gone`: the request was told that its session is gone or stale; only then may changes be discarded.
        """
        state = request.state
        if state in ("fresh", "ended"):
            return not request.writes or (not gone and self.create(request, told))
        changes = request.writes or request.rotate or bool(request.drops & request.base)
        if state == "live" and (kept := self.live.get(request.sid or "")) is not None:
            if not changes:  # it makes no write, so it does not learn what others have written
                request.settle()
            return not gone and (not changes or self.change(request, kept, told))
        if state == "stale":  # the load reported this; what it wrote waits for a login, or is discarded
            return not request.login or self.create(request, told, loose=True)
        if state == "gone" or (state == "live" and not changes):
            request.settle()  # if it is gone, that was reported already
            return True
        if request.sid in self.moved and request.login:  # a login begins a session of its own
            return self.create(request, told, loose=True)
        request.forget("stale" if request.sid in self.moved else "gone")
        return gone or not changes

    def is_new(self, sid: str) -> bool:
        return sid not in self.live and sid not in self.dead and sid not in self.moved

    def create(self, request: Request, told: str | None, *, loose: bool = False) -> bool:
        sid = told if self.named else f"new {len(self.live) + len(self.dead)}"
        if not sid or not self.is_new(sid):
            return False
        kept = self.live[sid] = Kept({}, loose=loose)
        self.apply(request, kept)
        request.state, request.sid, request.untold = "live", sid, True
        return True

    def change(self, request: Request, kept: Kept, told: str | None) -> bool:
        rotate, old = request.rotate, request.sid
        self.apply(request, kept)
        if not rotate:
            return True
        sid = told if self.named else f"new {len(self.live) + len(self.dead)}"
        if not sid or not self.is_new(sid) or old is None:
            return False
        del self.live[old]
        self.dead.add(old)
        if self.follows:
            self.moved[old] = sid
        self.live[sid] = kept
        request.sid, request.untold = sid, True
        return True

    def apply(self, request: Request, kept: Kept) -> None:
        if request.cleared or (request.login and kept.owner not in (None, request.owner)):
            kept.data.clear()
        for key in request.drops & request.base:
            kept.data.pop(key, None)
        kept.data.update(request.sets)
        for key, amount in request.adds.items():
            kept.data[key] = kept.data.get(key, type(amount)()) + amount
        if request.login:
            kept.owner = request.owner
        request.view, request.owner = dict(kept.data), kept.owner
        request.settle()

    def looks_like(self, found: Snapshot) -> bool:
        if not self.named:
            kept_now = [(kept.data, kept.owner) for kept in self.live.values()]
            return len(kept_now) == len(found) and all(one in kept_now for one in found.values())
        return self.live.keys() == found.keys() and all(
            kept.owner == found[sid][1] and (kept.loose or kept.data == found[sid][0])
            for sid, kept in self.live.items()
        )


def explains(world: World, actions: list[Action], found: Snapshot) -> bool:
    """Tell whether the actions, sorted by their ends, can have happened one by one and left `found`; change `world`."""
    if not actions:
        return world.looks_like(found)
    # An action that began after the end of another one happened after it; those of one actor happened in their order.
    next_ones: dict[str, Action] = {}
    for action in actions:
        if action.start <= actions[0].end:
            next_ones.setdefault(action.actor, action)
    *_, last = next_ones.values()
    for action in next_ones.values():
        then = world if action is last else world.copy()
        if then.happens(action) and explains(then, [other for other in actions if other is not action], found):
            return True
    return False
