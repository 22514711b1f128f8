"""The gateways' side: what they are told, and what they tell."""
