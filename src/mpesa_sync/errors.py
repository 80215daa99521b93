"""Every error this project raises on purpose, as one tree.

    MpesaSyncError                     code, http_status, retryable; its text is safe to show to anybody
    ├── ConfigurationError             settings that are missing or wrong, all of them at once
    ├── KmsKeyError                    the encryption key
    │   ├── KmsKeyMissing              none was given where secrets must be opened or sealed
    │   ├── KmsKeyMalformed            not 32 ASCII characters
    │   └── SecretUnreadable           the key is well-formed and does not open this secret
    ├── EmbeddedServerError            the embedded PostgreSQL cannot be installed, started or reached
    ├── SchemaError                    tables or columns are missing, or `mpesa_sync` is not as expected
    ├── SyncRefused                    the caller's own mistake: nothing was written, no alert
    │   ├── InvalidInput               a value has the wrong form; names the field
    │   ├── InvalidSettings            what was posted cannot be saved; lists every wrong field
    │   ├── NotSignedIn                nobody is signed in, or the session or token is not good (any more)
    │   │   └── SignInRefused          name and password do not belong together
    │   ├── TooManyAttempts            too many failed sign-ins; says how long to wait
    │   ├── NotAllowed                 signed in, and the role does not allow it
    │   ├── BarNotFound
    │   ├── CredentialsMissing
    │   ├── CredentialsUnusable
    │   ├── AmbiguousEnvironment
    │   ├── EnvironmentNotAllowed
    │   ├── StaleAuthority             secrets stand in `bars` and in no credentials row
    │   ├── UnsupportedTransaction     a joined connection is not in a READ COMMITTED transaction
    │   ├── OperationConflict          an operation id that was used for something else, or given up
    │   └── …                          those about alerts, forms and repeated requests stand in `refusals`
    └── DatabaseFault                  the database refused or was lost; carries the SQLSTATE, never its text
        ├── TransientFault             worth trying again, nothing was written
        │   └── PoolExhausted          every connection of this program is in use; has waited already
        ├── OutcomeUnknown             COMMIT was sent and its answer never came
        ├── ResourcesExhausted         disk or memory is full; not retried in the request
        └── PermanentFault             trying again cannot help
            ├── ConstraintRefused      23xxx, with the constraint's name
            ├── TriggerRefused         P0001, raised by a function of the platform
            ├── AccessDenied           42501, also a row level security policy that hides rows
            └── IntegrityFault         what was read back is not what was written

An error that comes from a call with a result type carries that result in `result` (spec R1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class MpesaSyncError(Exception):
    """Base of the tree.

    Attributes: `code`, a stable machine-readable name; `http_status`, the status an API answers with;
    `retryable`, whether the same call may succeed later without anything being changed by a person;
    `result`, the result value of the call that raised it, where that call has one; `attempts`, how many
    transactions that call began; `sqlstate`, the five characters of the database's answer, None where it gave none.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.result: Any = None
        self.attempts = 0


class ConfigurationError(MpesaSyncError):
    """Settings that are missing or wrong. `faults` lists each by name, without its content (spec 7)."""

    code = "configuration"

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class KmsKeyError(MpesaSyncError):
    """Something is wrong with `MPESA_KMS_KEY` or with what it should open."""

    code = "kms_key"


class KmsKeyMissing(KmsKeyError):
    """No key was given, and secrets must be opened or sealed here."""

    code = "kms_key_missing"


class KmsKeyMalformed(KmsKeyError):
    """A key is not exactly 32 ASCII characters."""

    code = "kms_key_malformed"


class SecretUnreadable(KmsKeyError):
    """No key at hand opens a stored secret: another key, or tampered (the format cannot tell)."""

    code = "secret_unreadable"


class EmbeddedServerError(MpesaSyncError):
    """The embedded PostgreSQL cannot be found, created, started, reached or stopped."""

    code = "embedded_server"


class SchemaError(MpesaSyncError):
    """Tables or columns are missing, odd, or of a version this program does not know. Names them."""

    code = "schema"


class SyncRefused(MpesaSyncError):
    """The caller's own mistake: nothing was written, nothing is alerted (spec R5.2)."""

    code = "refused"
    http_status = 400


class InvalidInput(SyncRefused):
    """A value has the wrong form. `field` names it."""

    code = "invalid_input"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class InvalidSettings(SyncRefused):
    """What was posted cannot be saved. `errors` lists every wrong field as a `domain.credentials.FieldError` (R4.4)."""

    code = "invalid_settings"

    def __init__(self, message: str, errors: Sequence[Any], *, code: str = "invalid_settings") -> None:
        super().__init__(message)
        self.errors = tuple(errors)
        self.reason = code


class NotSignedIn(SyncRefused):
    """Nobody is signed in, or the session or token is not good (any more)."""

    code = "not_signed_in"
    http_status = 401


class SignInRefused(NotSignedIn):
    """The name and the password do not belong together; which of them is wrong is not said."""

    code = "sign_in_refused"


class TooManyAttempts(SyncRefused):
    """Too many failed sign-ins. `retry_after_s` are the seconds to wait."""

    code = "too_many_attempts"
    http_status = 429

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotAllowed(SyncRefused):
    """Signed in, and the role of this person does not allow it."""

    code = "not_allowed"
    http_status = 403


class BarNotFound(SyncRefused):
    """No bar has this id (any more)."""

    code = "bar_not_found"
    http_status = 404


class CredentialsMissing(SyncRefused):
    """A switch-on was asked for a bar that has no M-Pesa credentials for the environment meant."""

    code = "credentials_missing"
    http_status = 409


class CredentialsUnusable(SyncRefused):
    """A switch-on was asked for credentials that are empty, unreadable or malformed. `reason` says which."""

    code = "credentials_unusable"
    http_status = 409

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class AmbiguousEnvironment(SyncRefused):
    """Two environments have credentials and nothing says which of them is meant."""

    code = "ambiguous_environment"
    http_status = 409


class EnvironmentNotAllowed(SyncRefused):
    """The environment is not allowed here (`MPESA_SYNC_ALLOW_SANDBOX`)."""

    code = "sandbox_not_allowed"
    http_status = 409


class StaleAuthority(SyncRefused):
    """The bar keeps M-Pesa secrets in `bars` that no credentials row holds, so `is_active` may not be the truth."""

    code = "stale_authority"
    http_status = 409


class UnsupportedTransaction(SyncRefused):
    """A joined connection must be inside a READ COMMITTED transaction (races.md)."""

    code = "unsupported_transaction"
    http_status = 500


class OperationConflict(SyncRefused):
    """The operation id was used for something else, or was given up before."""

    code = "operation_conflict"
    http_status = 409


class DatabaseFault(MpesaSyncError):
    """The database refused or was lost."""

    code = "database"
    http_status = 503


class TransientFault(DatabaseFault):
    """Worth trying again; this attempt wrote nothing."""

    code = "database_busy"
    retryable = True
    is_away = False  # True: nothing answers where the database should be, and the text is for operators


class PoolExhausted(TransientFault):
    """Every connection of this program was in use for as long as one may wait; not tried again in the request."""

    code = "pool_exhausted"


class OutcomeUnknown(DatabaseFault):
    """COMMIT was sent and its answer never came. Settle it by the operation id before writing again."""

    code = "outcome_unknown"


class ResourcesExhausted(DatabaseFault):
    """Disk or memory of the server is full (53100, 53200). Not retried in the request."""

    code = "database_full"
    retryable = True


class PermanentFault(DatabaseFault):
    """Trying again cannot help: somebody must change something."""

    code = "database_refused"
    http_status = 500


class ConstraintRefused(PermanentFault):
    """A constraint refuses the values (23xxx). `constraint` is its name where the server says it."""

    code = "constraint_refused"
    http_status = 409

    def __init__(self, message: str, *, sqlstate: str | None = None, constraint: str = "") -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.constraint = constraint


class TriggerRefused(PermanentFault):
    """A function of the platform raised an exception (P0001)."""

    code = "trigger_refused"


class AccessDenied(PermanentFault):
    """The database role may not do this, or row level security would hide rows (42501)."""

    code = "access_denied"


class IntegrityFault(PermanentFault):
    """What was read back is not what was written; the transaction was rolled back."""

    code = "integrity"
