"""Every error the factory raises on purpose, and what its reader can do about it.

    FactoryError
    ├── Fixable                something must be changed first; a retry cannot help (exit code 2)
    │   ├── RecipeError        a recipe, or what it names, is not usable
    │   ├── SourceError        a file of prompts, or of answers, cannot be read as one
    │   ├── UsedUp             the sources hold no prompt that no earlier round took
    │   ├── DriftError         a run folder was made with another recipe
    │   ├── SchemaError        a stored table is not of the form this version writes
    │   ├── Busy               another process works on the run folder
    │   ├── StorageError       the run folder cannot be written: no room, no right, not a folder
    │   ├── ModelError         a model has no weights, or cannot be found or converted
    │   ├── RequestRejected    the engine refused a request for what it asks (4xx)
    │   └── EngineRefused      the engine refuses whatever is asked: the key, the account, the model or the address
    ├── Transient              a retry may help (exit code 1)
    │   ├── EngineUnavailable  no connection, a 5xx, a server that did not come up
    │   ├── EngineTimeout      no answer in time
    │   ├── ShardsLeft         some shards failed, and all others are finished
    │   ├── TrainerEnded       the trainer's process came to its end before its work did
    │   ├── WorkerLost         a worker of a cluster came to its end before its shard did, and so did those after it
    │   ├── HubUnavailable     the Hugging Face hub cannot be reached, or is out of order
    │   └── StoreUnavailable   the object store that holds a run cannot be reached, or is out of order
    ├── Halted                 nothing more is sent; what was under way is kept
    │   ├── Stopped            the user stopped the work; the same command goes on (exit code 128 + the signal's number)
    │   └── BudgetSpent        the recipe's budget is used up; with a larger one the same command goes on (exit code 2)
    └── UnreadableReply        a judge's reply holds no verdict; always becomes a row with a status

The message is one line that names the file, the field, the value and the mend.
"""


class FactoryError(Exception):
    """The root: catch this to catch everything that the factory raises on purpose."""


class Fixable(FactoryError):
    """Something must be changed first; a retry cannot help."""


class RecipeError(Fixable):
    """A recipe, or what it names, is not usable."""


class SourceError(Fixable):
    """A file of prompts, or of answers, cannot be read as one."""


class UsedUp(Fixable):
    """The sources hold no prompt that no earlier round took."""


class DriftError(Fixable):
    """A run folder was made with another recipe."""


class SchemaError(Fixable):
    """A stored table is not of the form that this version writes."""


class Busy(Fixable):
    """Another process works on the run folder."""


class StorageError(Fixable):
    """The run folder cannot be written: no room, no right, not a folder."""


class ModelError(Fixable):
    """A model has no weights, or cannot be found or converted."""


class RequestRejected(Fixable):
    """The engine refused a request for what it asks (a 4xx)."""


class EngineRefused(Fixable):
    """The engine refuses whatever is asked: the key, the account, the model or the address is not in order."""


class Transient(FactoryError):
    """A retry may help."""


class EngineUnavailable(Transient):
    """No connection, a 5xx, or a server that did not come up."""


class EngineTimeout(Transient):
    """No answer in time."""


class ShardsLeft(Transient):
    """Some shards failed, no more than the recipe allows, and all that did not need them is done."""


class TrainerEnded(Transient):
    """The trainer's process came to its end before its work did: no memory, a kill, an error of its libraries."""


class WorkerLost(Transient):
    """A worker of a cluster came to its end before its shard did, and so did those that took it over; or none answers."""


class HubUnavailable(Transient):
    """The Hugging Face hub cannot be reached, or is out of order."""


class StoreUnavailable(Transient):
    """The object store that holds a run cannot be reached, or is out of order."""


class Halted(FactoryError):
    """Nothing more is sent; what was under way is kept."""


class Stopped(Halted):
    """The user stopped the work with a signal; the same command goes on from there."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message, signum)
        self.signum = signum

    def __str__(self) -> str:
        return str(self.args[0])


class BudgetSpent(Halted):
    """The recipe's budget is used up; with a larger one the same command goes on."""


class UnreadableReply(FactoryError):
    """A judge's reply holds no verdict; becomes a row with a status, never a number."""
