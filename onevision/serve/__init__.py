"""How others use the model: not built yet, see CHANGELOG.md."""
