"""How torch uses the processor's threads, which the environment says before torch is imported."""

import os

#: Intel's MKL, with which torch multiplies matrices on processors, then rounds alike with any number of threads, at no
#: cost that could be measured. It reads this before its first product.
REPEATABLE = ("MKL_CBWR", "AUTO,STRICT")
#: Threads that wait for each other spin less long before they sleep: as fast alone, and where another program wants the
#: cores, a run takes a few times longer, not dozens. GNU's OpenMP, which torch has on Linux, reads this as torch loads.
SHORT_SPINS = ("GOMP_SPINCOUNT", "20000")


def configure_threads() -> None:
    """Makes results on processors independent of the number of threads, and waiting threads sleep soon.

    Sets two environment variables of the whole process and of those that it starts, each where it is not set:
    MKL_CBWR=AUTO,STRICT, with which MKL's matrix products round alike with any number of threads, and
    GOMP_SPINCOUNT=20000, with which the threads of a run leave the cores to other programs soon. Call it before torch
    is imported, by anybody: later, it may change nothing. bon's own command line, page and Ray workers call it;
    `import bon` does not.
    """
    for name, value in (REPEATABLE, SHORT_SPINS):
        os.environ.setdefault(name, value)
