"""Built-in methods; each module is a plugin, registered in pyproject.toml."""
