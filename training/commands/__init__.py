"""What the commands are made of.

Those of ``manage.py train_mildnet``, in the order in which it uses them: :mod:`.arguments`, :mod:`.run_folder`,
:mod:`.fit`, :mod:`.data`, :mod:`.run_setup`, :mod:`.measurement`, :mod:`.new_version`. Modules that load TensorFlow are
imported inside functions, so that ``--help`` does not wait for it.
"""
