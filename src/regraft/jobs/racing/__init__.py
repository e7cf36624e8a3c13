"""The parts of a race of networks, as `race.py` puts them together: who enters, how they run, how they are judged, what is told."""
