"""The parts of ``manage.py train_mildnet``, in the order in which the command uses them.

:mod:`.arguments`, :mod:`.folders`, :mod:`.run_record`, :mod:`.devices`, :mod:`.data`, :mod:`.run_setup`,
:mod:`.fitting`, :mod:`.measuring`, :mod:`.new_version`. What is not the command's own, they take from the modules of
:mod:`training`. Those that load TensorFlow are imported inside functions, so that ``--help`` does not wait for it.
"""
