"""The errors that are meant for people: one message, which names the culprit and the mend."""


class MmbenchError(Exception):
    """Something the user can mend. The command line prints it without a traceback, and exits 2."""


class UsageError(MmbenchError):
    """An unknown name, a setting of the wrong type, a folder that cannot be written."""


class DataError(MmbenchError):
    """A file of data that cannot be read, or does not hold what a data set needs."""


class PluginError(MmbenchError):
    """A plugin that cannot be imported, or does not keep the contract of its kind."""
