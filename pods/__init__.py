"""Runs on TPU pods: what ./launch_tpu.sh does when it is given --tpu.

Apart from the package, since it runs on a machine where nothing is installed: nothing here imports anything but the
standard library.
"""
