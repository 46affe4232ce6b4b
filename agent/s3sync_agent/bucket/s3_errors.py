"""From what boto3 raises to what this project raises: which of our types, in which words.

The distinction that matters most: `StoreUnavailable` (asking again may help), `StoreDenied` (who
asks), `StoreMisconfigured` (what is asked, or whom) and `ObjectMissing` / `PreconditionFailed`,
which are answers. An answer that does not come from S3 (a proxy's page, a captive portal) is never
read as one of the last two.

Messages name the operation and the s3:// URL. They quote S3's own code and message, but no URL's
query and nothing that was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.exceptions as botocore_errors
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from s3sync_agent.errors import (
    DigestMismatch,
    ObjectMissing,
    PreconditionFailed,
    S3SyncError,
    StoreDenied,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
)
from s3sync_agent.layout import escape

_ROLE_HINT = (
    "give the instance its role, set AWS_PROFILE, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
    "`aws sts get-caller-identity` shows what is in use"
)
_KEY_HINT = "the access key or its secret is not the one of this S3 server; check it and AWS_ENDPOINT_URL"
_EXPIRED_HINT = (
    "log in again (`aws sso login`) or export fresh credentials; on an instance, look at its role and clock"
)
_CLOCK_HINT = "this machine's clock is more than 15 minutes off; start chrony and look at `chronyc tracking`"
_POLICY_HINT = (
    "compare the permissions of these credentials with what the operation needs (`aws sts "
    "get-caller-identity` shows who asks), and the bucket's own policy"
)
_ABSENT_HINT = (
    "if the key may be absent: S3 answers 403 for a missing key unless s3:ListBucket is allowed on it "
    "(condition s3:prefix: current/*)"
)
_NETWORK_HINT = "nothing is lost; look at DNS, route, security groups or the S3 endpoint if it goes on"
_NOT_S3_HINT = "something else answers there: check AWS_ENDPOINT_URL, the proxy settings and captive portals"

_DENIED: Final = {
    "AccessDenied": _POLICY_HINT,
    "AllAccessDisabled": _POLICY_HINT,
    "AccountProblem": _POLICY_HINT,
    "NotSignedUp": _POLICY_HINT,
    "InvalidSecurity": _POLICY_HINT,
    "InvalidAccessKeyId": _KEY_HINT,
    "SignatureDoesNotMatch": _KEY_HINT,
    "ExpiredToken": _EXPIRED_HINT,
    "ExpiredTokenException": _EXPIRED_HINT,
    "InvalidToken": _EXPIRED_HINT,
    "TokenRefreshRequired": _EXPIRED_HINT,
    "RequestExpired": _CLOCK_HINT,
    "RequestTimeTooSkewed": _CLOCK_HINT,
}
_WRONG_REGION: Final = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}
_UNAVAILABLE: Final = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "OperationAborted",
    "NoSuchUpload",
}
_WRONG_BYTES: Final = {
    "BadDigest",
    "InvalidDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "IncompleteBody",
}

_NO_CREDENTIALS: Final = (
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.MetadataRetrievalError,
    botocore_errors.NoAuthTokenError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.SSOError,
    botocore_errors.RefreshWithMFAUnsupportedError,
    botocore_errors.InvalidIMDSEndpointError,
)
_NETWORK: Final = (
    botocore_errors.ConnectionError,
    botocore_errors.HTTPClientError,
    botocore_errors.IncompleteReadError,
    HTTPError,
)
_WRONG_SETTINGS: Final = (
    botocore_errors.ProfileNotFound,
    botocore_errors.ConfigParseError,
    botocore_errors.ConfigNotFound,
    botocore_errors.InvalidConfigError,
    botocore_errors.NoRegionError,
    botocore_errors.InvalidRegionError,
    botocore_errors.EndpointProviderError,
    botocore_errors.ParamValidationError,
    botocore_errors.InvalidProxiesConfigError,
    botocore_errors.MissingDependencyException,
)


class Unchanged(StoreError):
    """304: the object still has the ETag that was asked about. Never leaves this package."""


class OutOfRange(StoreError):
    """416: the object ends before the range begins. Never leaves this package."""


@contextmanager
def asking(operation: str, url: str, *, conditional: bool = False) -> Iterator[None]:
    """Whatever boto3 raises inside comes out as one of our errors, saying `operation url: …`.

    `conditional` marks a write under If-Match or If-None-Match: "gone" and "somebody else is writing"
    then mean that the condition did not hold.
    """
    try:
        yield
    except botocore_errors.ClientError as error:
        raise _from_answer(error, f"{operation} {escape(url)}", conditional=conditional) from error
    except (botocore_errors.BotoCoreError, ResponseParserError, HTTPError) as error:
        raise _from_failure(error, f"{operation} {escape(url)}") from error
    except RuntimeError as error:  # what botocore raises when a refreshed credential has expired too
        if "credentials" not in str(error):
            raise
        raise StoreDenied(f"{operation} {escape(url)}: {escape(str(error))}", hint=_EXPIRED_HINT) from error


def not_s3(operation: str, url: str, what: str) -> StoreMisconfigured:
    """The answer has the right status and yet cannot come from S3."""
    return StoreMisconfigured(
        f"{operation} {escape(url)}: the answer does not come from an S3 server ({what})", hint=_NOT_S3_HINT
    )


def require(operation: str, url: str, answer: Mapping[str, object], *fields: str) -> None:
    """Raise StoreMisconfigured unless the answer holds what every answer of S3 to that question holds."""
    missing = [field for field in fields if field not in answer]
    if missing:
        raise not_s3(operation, url, f"it has no {' and no '.join(missing)}")


def wrong_endpoint(url: str, error: ValueError) -> StoreMisconfigured:
    """The address to talk to is none."""
    return StoreMisconfigured(f"open {escape(url)}: {_plain(error)}", hint="check AWS_ENDPOINT_URL")


def of_key(code: str, message: str) -> StoreError:
    """The error of one key in an answer about many."""
    if code in _DENIED:
        return StoreDenied(message, hint=_DENIED[code])
    return StoreUnavailable(message) if code in _UNAVAILABLE else StoreError(message)


# ---------------------------------------------------------------------------- S3 answered


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer other than success. `code` is S3's own, "" when the answer holds no S3 error document,
    which only answers to HEAD (`bodyless`) may lack."""

    asked: str
    operation: str
    status: int
    code: str
    message: str
    region: str
    conditional: bool

    @property
    def bodyless(self) -> bool:
        return self.operation in ("HeadObject", "HeadBucket")

    @property
    def said(self) -> str:
        code = escape(self.code[:80]) or ("without a reason" if self.bodyless else "without S3's words")
        said = f"{self.asked}: S3 answered {self.status} {code}"
        message = escape(_QUERY.sub(r"\1", self.message[:400]).strip())
        return f"{said}: {message}" if message else said


def _from_answer(error: botocore_errors.ClientError, asked: str, *, conditional: bool) -> S3SyncError:
    told: dict[str, Any] = dict(error.response.get("Error", {}))
    meta: dict[str, Any] = dict(error.response.get("ResponseMetadata", {}))
    code = str(told.get("Code", ""))
    answer = _Answer(
        asked=asked,
        operation=error.operation_name,
        status=int(meta.get("HTTPStatusCode", 0)),
        code=code if code[:1].isalpha() else "",  # botocore puts the status in the place of a missing code
        message=str(told.get("Message", "")),
        region=meta.get("HTTPHeaders", {}).get("x-amz-bucket-region") or str(told.get("Region", "")),
        conditional=conditional,
    )
    if answer.status == 304:
        return Unchanged(answer.said)
    if answer.status == 416:
        return OutOfRange(answer.said)
    if _did_not_hold(answer):
        return PreconditionFailed(
            answer.said, hint="somebody else changed the object; read it and decide again"
        )
    if answer.status >= 500 or answer.status == 429 or answer.code in _UNAVAILABLE:
        # An answer 200 whose body cannot be read is a 500 to botocore: cut off, or not S3's.
        hint = _NETWORK_HINT if answer.code else f"if it stays so, {_NOT_S3_HINT}"
        return StoreUnavailable(answer.said, hint=hint)
    if answer.code in _WRONG_REGION or (answer.status < 400 and (answer.region or answer.bodyless)):
        return _wrong_region(answer)
    if not answer.code and not answer.bodyless:
        return StoreMisconfigured(f"{answer.said}, so it is not S3 that answered", hint=_NOT_S3_HINT)
    return _refusal(answer)


def _did_not_hold(answer: _Answer) -> bool:
    gone_or_busy = answer.status in (404, 409) and answer.code not in ("", "NoSuchBucket")
    return answer.status == 412 or (answer.conditional and gone_or_busy)


def _refusal(answer: _Answer) -> S3SyncError:
    """S3 understood and said no."""
    if answer.code == "NoSuchBucket" or (answer.status == 404 and answer.operation == "HeadBucket"):
        return StoreMisconfigured(
            f"{answer.asked}: there is no such bucket",
            hint="check the site's name, the account and AWS_ENDPOINT_URL",
        )
    if answer.status == 404:
        return ObjectMissing(f"{answer.asked}: there is no such object")
    if answer.code in _WRONG_BYTES:
        return DigestMismatch(
            answer.said, hint="the bytes changed on the way or while they were read; try again"
        )
    if answer.code in _DENIED or answer.code.startswith("KMS.") or answer.status in (401, 403):
        return StoreDenied(answer.said, hint=_denied_hint(answer.code, answer.operation))
    if answer.bodyless and answer.status == 400:
        return StoreDenied(answer.said, hint=f"S3 gives no reason here; an expired session? {_EXPIRED_HINT}")
    if answer.code in ("InvalidObjectState", "InvalidBucketName", "MethodNotAllowed"):
        return StoreMisconfigured(
            answer.said, hint="look at the object's storage class and the bucket's name and kind"
        )
    return StoreError(answer.said)


def _denied_hint(code: str, operation_name: str) -> str:
    if code.startswith("KMS."):
        return "the object is encrypted with a KMS key that these credentials cannot use (kms:Decrypt)"
    hint = _DENIED.get(code, _POLICY_HINT)
    if hint is _POLICY_HINT and operation_name in ("GetObject", "HeadObject"):
        return f"{hint}; {_ABSENT_HINT}"
    return hint


def _wrong_region(answer: _Answer) -> StoreMisconfigured:
    if not answer.region:
        return StoreMisconfigured(
            answer.said, hint="the bucket is in another region: set AWS_DEFAULT_REGION to it"
        )
    region = escape(answer.region[:40])
    return StoreMisconfigured(
        f"{answer.said}; the bucket is in {region}", hint=f"set AWS_DEFAULT_REGION={region}"
    )


_QUERY = re.compile(r"(https?://[^\s?]*)\?\S*")


# ----------------------------------------------------------------------- S3 did not answer


def _from_failure(error: Exception, asked: str) -> StoreError:
    if isinstance(error, _NO_CREDENTIALS):
        return StoreDenied(f"{asked}: no usable credentials: {_plain(error)}", hint=_ROLE_HINT)
    if isinstance(error, _WRONG_SETTINGS):
        return StoreMisconfigured(
            f"{asked}: {_plain(error)}", hint="check the AWS settings and the site's name"
        )
    if isinstance(error, ResponseParserError):
        return StoreMisconfigured(
            f"{asked}: the answer does not come from an S3 server (it cannot be read)", hint=_NOT_S3_HINT
        )
    if isinstance(error, botocore_errors.SSLError) and "certificate" in str(error).lower():
        return StoreMisconfigured(
            f"{asked}: the server's certificate is not trusted ({_reason(error)})",
            hint="check the clock, AWS_CA_BUNDLE and whether a proxy opens TLS",
        )
    if isinstance(error, botocore_errors.FlexibleChecksumError):
        return StoreUnavailable(f"{asked}: the bytes that arrived do not have the checksum S3 stored")
    if isinstance(error, _NETWORK):
        return StoreUnavailable(f"{asked}: {_network(error)}", hint=_NETWORK_HINT)
    return StoreError(f"{asked}: {type(error).__name__}: {_plain(error)}")


def _network(error: Exception) -> str:
    if isinstance(error, botocore_errors.ConnectTimeoutError):
        return f"no connection in time{_to(error)}"
    if isinstance(error, botocore_errors.ReadTimeoutError):
        return f"no answer in time{_to(error)}"
    if isinstance(error, botocore_errors.EndpointConnectionError):
        return f"no connection{_to(error)} ({_reason(error)})"
    if isinstance(error, (botocore_errors.ResponseStreamingError, botocore_errors.IncompleteReadError)):
        return "the answer broke off in the middle"
    return f"the connection failed{_to(error)} ({_reason(error)})"


def _to(error: Exception) -> str:
    endpoint = getattr(error, "kwargs", {}).get("endpoint_url")
    return f" to {escape(urlsplit(str(endpoint)).netloc.rpartition('@')[2])}" if endpoint else ""


_ERRNO = re.compile(r"\[Errno -?\d+\] ([^()'\"]+)|(certificate verify failed[^()]*)")


def _reason(error: Exception) -> str:
    """The operating system's words out of the layers of wrapping, else the innermost type's name."""
    cause = getattr(error, "kwargs", {}).get("error", error)
    found = _ERRNO.search(str(cause))
    return escape((found[1] or found[2]).strip()) if found else type(cause).__name__


def _plain(error: Exception) -> str:
    return escape(_QUERY.sub(r"\1", " ".join(str(error).split()))[:400])
