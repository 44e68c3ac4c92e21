"""Built-in metrics; each module is a plugin, registered in pyproject.toml."""
