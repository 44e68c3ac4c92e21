"""Built-in executors; each module is a plugin, registered in pyproject.toml."""
