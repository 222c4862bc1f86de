"""What scores are worth: power with errors, significances and limits, false alarms, masses, reasons, robustness."""
