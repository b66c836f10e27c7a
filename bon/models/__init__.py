"""Which models there are, their files, and how they are loaded onto a device."""
