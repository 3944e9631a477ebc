"""Row: what a store remembers of one key, and what a claim, a completion and a release make of it.

Law: pure; time and the next token are told. A store that can read and write a row in one step uses this as it is; one
that cannot says the same in its own language, and the catalogue compares.
"""

from __future__ import annotations

from msgspec import Struct

from unimsg.idempotency.store import Answer, Ask, End

RELEASED, RUNNING, COMPLETED, FAILED = 0, 1, 2, 3

NOTHING = float("-inf")


class Row(Struct, gc=False):
    """One key.

    Attributes:
        state: released, running, completed or failed.
        token: of the last claim.
        until: when a running claim ends.
        ends: when the row ends, whatever its state.
        attempts: executions that failed, or whose claim ran out.
        redrive: the highest number with which it was claimed.
        fingerprint: given with the claim that made the row.
        outcome: given on completion.
    """

    state: int = RELEASED
    token: int = 0
    until: float = NOTHING
    ends: float = NOTHING
    attempts: int = 0
    redrive: int = 0
    fingerprint: bytes | None = None
    outcome: bytes | None = None

    def claim(self, ask: Ask, *, token: int, lock: float, ttl: float, now: float) -> Answer:
        """Take it for `lock` seconds if it is free; `token` must be higher than any that this key had."""
        if self.ends <= now:
            self.state, self.attempts, self.redrive, self.outcome = RELEASED, 0, ask.redrive, None
            self.fingerprint = ask.fingerprint
        elif ask.fingerprint != self.fingerprint and None not in (ask.fingerprint, self.fingerprint):
            return Answer("reused")
        state = self.state
        if state == COMPLETED:
            return Answer("completed", outcome=self.outcome)
        if state == RUNNING:
            if self.until > now:
                return Answer("in_progress", token=self.token, remaining=self.until - now)
            self.attempts += 1  # nobody knows how far it came
        if ask.redrive > self.redrive:
            self.redrive, self.attempts = ask.redrive, 0
        elif state == FAILED:
            return Answer("failed")
        self.state, self.token, self.until, self.ends = RUNNING, token, now + lock, now + ttl
        return Answer("acquired", token=token, attempts=self.attempts)

    def renew(self, token: int, *, lock: float, now: float) -> bool:
        """Prolong the claim; one that ran out is still its holder's while nobody else has taken it."""
        if token != self.token or self.state != RUNNING or self.ends <= now:
            return False
        self.until = now + lock
        self.ends = max(self.ends, self.until)
        return True

    def complete(self, token: int, outcome: bytes | None, *, ttl: float, now: float) -> bool:
        """Mark it as done."""
        if token != self.token or self.state not in (RUNNING, COMPLETED) or self.ends <= now:
            return False
        if self.state == RUNNING:
            self.state, self.outcome, self.ends = COMPLETED, outcome, now + ttl
        return True

    def release(self, token: int, end: End, *, ttl: float, now: float) -> bool:
        """Give it back."""
        if token != self.token or self.state == COMPLETED or self.ends <= now:
            return False
        if self.state == RUNNING:
            self.state = FAILED if end == "dead" else RELEASED
            self.attempts += end != "returned"
            self.ends = now + ttl
        return True
