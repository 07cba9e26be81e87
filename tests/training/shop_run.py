"""train_mildnet with a small network, as a program of its own that may be killed.

    python -m tests.training.shop_run STORAGES KILL_AT [ARGUMENT ...]

STORAGES is the folder of the shop's files and weights; at step KILL_AT (0: never) the process is killed.
"""

import os
import signal
import sys
import time
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

if __name__ == "__main__":
    settings.STORAGES = settings.STORAGES | {
        alias: {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(Path(sys.argv[1]) / folder)},
        }
        for alias, folder in (("default", "media"), ("shop_similarity", "weights"))
    }
    django.setup()
    from tests.training.small_network import use_small_network

    use_small_network(setattr, dict.__setitem__)
    from shop_similarity.training.learning.watcher import ProgressWatcher

    kill_at, told = int(sys.argv[2]), ProgressWatcher.step

    def step(self, epoch, number, result, learning_rate):
        told(self, epoch, number, result, learning_rate)
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    ProgressWatcher.step = step
    call_command("train_mildnet", *sys.argv[3:], verbosity=0)
