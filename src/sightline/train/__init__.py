"""Training: one loop for both stages. Which parts train, and how fast, is the recipe's."""
