"""Models as a researcher would write them first, from the equations and with nothing clever.

They say what mmbench's must compute (tests/test_reference.py), and how long the plain way takes
(tests/test_speed.py). They are for the shapes and the task of IEMOCAP: yes-or-no labels.
"""
