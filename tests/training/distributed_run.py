"""The small run on several devices, as a program of its own: devices have to be set up before TensorFlow begins.

    python -m tests.training.distributed_run one|two|machines FOLDER [JSON]

prints one line of JSON: the history, how many replicas, whether this process is the one that writes. With ``machines``
the other machines are in TF_CONFIG.
"""

import json
import sys
from pathlib import Path

import tensorflow as tf

if __name__ == "__main__":
    kind, folder = sys.argv[1], Path(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    if kind == "two":
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    from shop_similarity.training.learning.distribution import choose_distribution

    # Machines have to find each other before anything is computed.
    distribution = choose_distribution(["CPU:0", "CPU:1"] if kind == "two" else None)
    tf.config.experimental.enable_op_determinism()
    from tests.training.small_run import figures, make_trainer

    trainer = make_trainer(folder, distribution, **options)
    result = trainer.fit(resume=True)
    print(
        json.dumps(
            {"history": figures(result.history), "replicas": distribution.replicas, "chief": distribution.chief}
        ),
        flush=True,
    )
