"""What `manage.py demo` does, one subject a file."""
