"""Random histories of a shop while its servers and workers are killed, stopped and slowed: ``python -m tests.chaos``.

Everything is real: Postgres and Valkey of its own, two Celery workers in processes of their own, a second process that
edits the shop at the same time, the network (shrunk), the storage. ``plan`` draws what happens, ``actions`` does what
the shop does, ``faults`` what goes wrong, ``world`` runs the servers and workers, ``invariant`` states what has to be
true when things have calmed down, and ``history`` puts them together.
"""
