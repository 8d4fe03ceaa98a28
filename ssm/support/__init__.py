"""What all other parts use: checks of input, errors, files, locks, interrupts, progress."""
