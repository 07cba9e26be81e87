"""The plugin's pages in the admin, one file for each subject."""
