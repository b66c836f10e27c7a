"""The programs that bon is measured against, each in a file that any Python with that program's packages can run."""
