"""Triplets: reading, checking, building and parting them, from files, a shop's catalogue or its clicks."""
