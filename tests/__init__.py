"""The tests, which set torch's threads as the command line does, before anything imports torch."""

import bon

bon.configure_threads()
