"""Our signature is botocore's: of any body, any credentials, any endpoint, at any time."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from unimsg.backends._aws.signing import Signer

SECRETS = st.text("abcXYZ019/+", min_size=1, max_size=40)
URLS = st.sampled_from(
    [
        "https://sqs.eu-west-1.amazonaws.com/",
        "https://sqs.eu-west-1.amazonaws.com:443/",
        "http://127.0.0.1:4566/",
        "http://[::1]:4566/",
        "https://gateway.example:8443/aws/a b/../sqs/",
    ]
)


@given(
    url=URLS,
    body=st.binary(max_size=200),
    secrets=st.tuples(SECRETS, SECRETS, st.none() | SECRETS),
    at=st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1)),  # noqa: DTZ001 - hypothesis takes naive ones
)
def test_our_signature_is_that_of_botocore(
    url: str, body: bytes, secrets: tuple[str, str, str | None], at: datetime
) -> None:
    """The signer is asked for each call with the same credentials twice, as a client does."""
    signer = Signer(url, service="sqs", region="eu-west-1", target="AmazonSQS")
    credentials, now = Credentials(*secrets), at.replace(microsecond=0, tzinfo=UTC)
    for operation in ("SendMessageBatch", "ReceiveMessage"):
        headers = signer.headers(operation, body, credentials, now.timestamp())
        theirs = SigV4Auth(credentials, "sqs", "eu-west-1")
        request = AWSRequest(
            "POST",
            url,
            data=body,
            headers={k: v for k, v in headers.items() if k not in ("authorization", "host")},
        )
        request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
        text = theirs.string_to_sign(request, theirs.canonical_request(request))
        assert headers["authorization"].endswith(f"Signature={theirs.signature(text, request)}")
        assert headers["x-amz-target"] == f"AmazonSQS.{operation}"
