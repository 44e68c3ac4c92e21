"""Built-in missingness protocols and samplers; each module is a plugin, registered in pyproject.toml."""
