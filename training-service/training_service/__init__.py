"""Fine-tunes models: LLaMA-Factory and TRL behind the platform's training and export jobs."""
