"""The command ``kernlens``. This file imports nothing, so that Ctrl-C ends what is imported too."""
