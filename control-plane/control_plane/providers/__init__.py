"""Models of others: where they are, with which key they are asked, and whether they answer."""
