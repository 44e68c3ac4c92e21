"""Built-in loggers, which are told how a run goes; each module is a plugin, registered in pyproject.toml."""
