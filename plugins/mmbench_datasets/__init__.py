"""Built-in datasets; each module is a plugin, registered in pyproject.toml."""
