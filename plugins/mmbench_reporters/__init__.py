"""Built-in reporters; each module is a plugin, registered in pyproject.toml."""
