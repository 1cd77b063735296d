"""What fits a budget of memory and hours: every way to train on given data, its cost known before it is trained."""
