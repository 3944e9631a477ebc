"""What URLs of SQS and SNS say, and what is refused before anything is asked of AWS."""

from __future__ import annotations

import pytest

import unimsg
from unimsg.backends._aws import account, trouble
from unimsg.backends.sqs import entries
from unimsg.errors import (
    CapabilityError,
    Error,
    LeaseLostError,
    NotFoundError,
    OptionError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)


@pytest.mark.parametrize("scheme", ["sqs", "sqs+fifo"])
def test_the_one_group_of_a_queue_is_the_one_that_the_url_names(scheme: str) -> None:
    """Any other is refused, by name of who has more; None always works."""
    client = unimsg.connect(f"{scheme}://eu-west-1?group=billing")
    client.subscriber("orders", group="billing")
    client.subscriber("orders")
    with pytest.raises(CapabilityError, match="sns") as raised:
        client.subscriber("orders", group="audit")
    assert raised.value.missing == ("groups",)


@pytest.mark.parametrize(
    "url",
    [
        "sqs://eu west 1",
        "sqs://eu-west-1?access_key=a",
        "sqs://eu-west-1?endpoint_url=localhost",
        "sqs://eu-west-1?wait=21s",
        "sqs://eu-west-1?lease=13h",
        "sqs://eu-west-1?dedup_by=key",
        "sns://eu-west-1?queue={destination}",
        "sns://eu-west-1?queue={topic}-{group}",
        "sns://eu-west-1?group=billing",
    ],
)
def test_a_wrong_option_is_refused_before_any_call(url: str) -> None:
    """With what is accepted instead."""
    with pytest.raises(OptionError):
        unimsg.connect(url)


@pytest.mark.parametrize("name", ["a.fifo.x", "a.b", "x" * 76, "ü"])
async def test_a_name_that_is_none_is_refused_before_any_call(name: str) -> None:
    """A destination never says which kind of queue it is; promise 19."""
    client = unimsg.connect("sqs+fifo://eu-west-1?names=any&prefix=prod-")
    with pytest.raises(OptionError):
        await client.backend.open_sender(name)
    await client.aclose()


@pytest.mark.parametrize(
    ("code", "status", "meaning", "again"),
    [
        ("RequestThrottled", 400, ThrottledError, True),
        ("OverLimit", 403, ThrottledError, True),
        ("com.amazonaws.sqs#KmsThrottled", 400, ThrottledError, True),
        ("ExpiredToken", 403, PermissionDeniedError, True),
        ("AccessDenied", 403, PermissionDeniedError, False),
        ("InvalidSignatureException", 403, PermissionDeniedError, False),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, NotFoundError, False),
        ("NotFound", 404, NotFoundError, False),
        ("InternalError", 200, UnavailableError, True),
        ("", 503, UnavailableError, True),
        ("InvalidMessageContents", 400, RejectedError, False),
        ("InvalidParameter", 400, RejectedError, False),
    ],
)
def test_each_answer_of_aws_has_one_meaning(
    code: str, status: int, meaning: type[Error], again: bool
) -> None:
    """Decided by its code, and by its status where the code says nothing."""
    error = trouble.answered(code, "said so", status, backend="sqs")
    assert type(error) is meaning
    assert error.retryable is again


def test_an_entry_that_the_answer_names_nowhere_has_an_unknown_end() -> None:
    """Neither stored nor refused was said of it; promise 2."""
    ends = entries.failures({"Successful": [{"Id": "1"}]}, 2, "sqs")
    assert ends[1] is None
    assert isinstance(ends[0], UnavailableError)
    assert isinstance(entries.publish_end(ends[0]), OutcomeUnknownError)


def test_a_refused_settlement_is_a_lost_lease() -> None:
    """The handle was an older one, or too late; promise 8."""
    failed = {
        "Failed": [{"Id": "0", "Code": "ReceiptHandleIsInvalid", "SenderFault": True, "Message": "old"}]
    }
    (end,) = entries.failures(failed, 1, "sqs")
    assert isinstance(entries.settle_end(end), LeaseLostError)


def test_certificates_are_left_unread_only_where_none_will_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never of AWS itself, never of a private endpoint by TLS, never behind a proxy that may have one."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert account._in_the_clear("http://emulator:4566")
    assert not account._in_the_clear("https://vpce-1")
    assert not account._in_the_clear(None)
    monkeypatch.setenv("http_proxy", "https://proxy")
    assert not account._in_the_clear("http://emulator:4566")
