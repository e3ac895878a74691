"""Services of other protocols that take events. What they take goes the way of Append: the same queue and answers."""
