"""Errors that a user can act on: each names the value, the place and what to do."""


class MerchantGuardError(Exception):
    """Base of every error the command line shows without a traceback."""


class TaxonomyError(MerchantGuardError):
    """A taxonomy file is not usable; the message lists all its faults."""


class RecordError(MerchantGuardError):
    """A record, or the file that holds it, breaks the record contract."""


class SplitError(MerchantGuardError):
    """The records cannot be split as asked."""


class SettingsError(MerchantGuardError):
    """The settings of a run are wrong; the message lists all faults."""


class RunError(MerchantGuardError):
    """A run folder is missing something, or does not fit the request."""


class BundleError(MerchantGuardError):
    """A bundle is damaged, incomplete or of another format version."""


class ParityError(MerchantGuardError):
    """An exported graph does not reproduce the trained model's probabilities."""


class StorageError(MerchantGuardError):
    """A file could not be written; no partial file is left behind."""


class AuditError(MerchantGuardError):
    """An audit folder is damaged, or does not hold what was requested."""


class MissingExtraError(MerchantGuardError, ImportError):
    """An optional library is not installed; the message is the command that installs it."""
