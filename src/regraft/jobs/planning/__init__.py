"""The parts of a plan, as `plan.py` puts them together: what is made within which time, how one network is looked at."""
