"""The one exception type that is addressed to the person who started the run."""


class UserError(ValueError):
    """Something only the user can mend: a file, a parameter, an option.

    The message is one line that names the file or parameter, the value found, and what to do.
    On the command line it is printed alone, without a traceback.
    """
