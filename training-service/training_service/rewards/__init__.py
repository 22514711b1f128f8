"""What GRPO training pays a completion for."""
