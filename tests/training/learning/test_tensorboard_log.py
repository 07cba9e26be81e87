"""The curves, read back from the event files as TensorBoard reads them."""

import pytest
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shop_similarity.training.learning.tensorboard_log import TensorBoardLog


def curve(run, tag):
    """[(step, value)] of one tag, with no help from TensorBoard against points that stand there twice."""
    events = EventAccumulator(str(run), size_guidance={"tensors": 0}, purge_orphaned_data=False)
    events.Reload()
    if tag not in events.Tags()["tensors"]:
        return []
    return [(event.step, round(event.tensor_proto.float_val[0], 4)) for event in events.Tensors(tag)]


def write(folder, steps, epochs, value=1.0, **first):
    with TensorBoardLog(folder, **first) as log:
        for step in steps:
            log.step(step, {"loss": value})
        for epoch in epochs:
            log.epoch(epoch, {"loss": value, "accuracy": None})
            log.epoch(epoch, {"val_loss": value + 1}, split="validation")


def test_train_and_validation_share_a_tag_and_steps_have_their_own(tmp_path):
    write(tmp_path, range(3), range(2))
    assert curve(tmp_path / "train" / "steps", "step/loss") == [(0, 1), (1, 1), (2, 1)]
    assert curve(tmp_path / "train", "epoch/loss") == [(0, 1), (1, 1)]
    assert curve(tmp_path / "validation", "epoch/loss") == [(0, 2), (1, 2)]
    assert curve(tmp_path / "train", "epoch/accuracy") == []


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    write(tmp_path, range(25), range(2), value=1.0)
    write(tmp_path, range(20, 30), range(1, 4), value=5.0, first_step=20, first_epoch=1)
    assert curve(tmp_path / "train" / "steps", "step/loss") == [(n, 1.0 if n < 20 else 5.0) for n in range(30)]
    assert curve(tmp_path / "train", "epoch/loss") == [(0, 1), (1, 5), (2, 5), (3, 5)]
    assert curve(tmp_path / "validation", "epoch/loss") == [(0, 2), (1, 6), (2, 6), (3, 6)]


def test_resumed_at_once_and_again(tmp_path):
    for start in range(3):
        write(tmp_path, range(start, start + 2), [], value=float(start), first_step=start)
    assert curve(tmp_path / "train" / "steps", "step/loss") == [(n, float(min(n, 2))) for n in range(4)]


def test_a_new_run_starts_empty(tmp_path):
    write(tmp_path, range(5), range(5))
    write(tmp_path, range(2), range(1), value=3.0)
    assert curve(tmp_path / "train" / "steps", "step/loss") == [(0, 3), (1, 3)]
    assert curve(tmp_path / "train", "epoch/loss") == [(0, 3)]


def test_a_record_cut_in_half_by_a_kill_is_dropped(tmp_path):
    write(tmp_path, range(4), [])
    (file,) = (tmp_path / "train" / "steps").glob("*tfevents*")
    file.write_bytes(file.read_bytes()[:-7])
    write(tmp_path, range(3, 5), [], value=2.0, first_step=3)
    assert curve(tmp_path / "train" / "steps", "step/loss") == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)]


def test_a_running_tensorboard_forgets_the_dropped_points(tmp_path):
    write(tmp_path, range(10), [])
    looking = plugin_event_accumulator.EventAccumulator(
        str(tmp_path / "train" / "steps"), tensor_size_guidance={"scalars": 0}
    )
    looking.Reload()
    write(tmp_path, range(6, 8), [], value=2.0, first_step=6)
    looking.Reload()
    seen = [(event.step, event.tensor_proto.float_val[0]) for event in looking.Tensors("step/loss")]
    assert seen == [(n, 1.0) for n in range(6)] + [(6, 2.0), (7, 2.0)]


def test_flushed_points_are_on_disk_before_the_log_is_closed(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.step(0, {"loss": 0.5})
    log.flush()
    assert curve(tmp_path / "train" / "steps", "step/loss") == [(0, 0.5)]
    log.close()


def test_options(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        log.options({"loss": "triplet", "images": "a|b\nc", "rate": 1e-3})
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    text = events.Tensors("options/text_summary" if "options/text_summary" in events.Tags()["tensors"] else "options")
    assert b"| images | a\\|b c |" in text[0].tensor_proto.string_val[0]


def test_an_unknown_split_is_refused(tmp_path):
    with TensorBoardLog(tmp_path) as log, pytest.raises(ValueError, match="split must be one of"):
        log.epoch(0, {"loss": 1}, split="test")
