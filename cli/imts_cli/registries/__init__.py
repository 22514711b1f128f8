"""LLaMA-Factory's data set registries (dataset_info.json): what they name, in the platform's formats."""
