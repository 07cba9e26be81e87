"""Adapters for shop systems and content managers, each an app of its own."""
