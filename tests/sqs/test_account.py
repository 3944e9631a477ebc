"""What the clients of all accounts share, and what none may know of another."""

from __future__ import annotations

from typing import Any

from aiobotocore.session import AioSession

from unimsg.backends._aws.account import _new_session


async def test_what_is_registered_with_one_session_no_other_hears() -> None:
    """They get copies of the handlers of botocore."""
    first, second = _new_session(None), _new_session(None)
    first.register("said-by-the-test", lambda **_: "heard")

    for session, answers in ((first, ["heard"]), (second, []), (_new_session(None), [])):
        assert await _answers(session, "said-by-the-test") == answers


async def test_a_session_has_the_handlers_of_botocore() -> None:
    """Seen at one of them, which lets some calls of Cognito go unsigned."""
    event = "choose-signer.cognito-identity.GetId"
    assert await _answers(_new_session(None), event) == await _answers(AioSession(), event) != []


async def _answers(session: Any, event: str) -> list[str]:
    said = await session.get_component("event_emitter").emit(event, context={}, signing_name="")
    return [str(answer) for _, answer in said]
