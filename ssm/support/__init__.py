"""What every other room stands on: checks of input, files, locks, interrupts, progress."""
