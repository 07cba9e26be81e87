"""Model versions in the shop's database and storage: made, stored, loaded, run over files."""
