"""Plans training within a budget of memory and hours: the cost of every variant, known before training."""
