"""A network trained under any of the losses: its trainer, monitors, alarms and checkpoints."""
