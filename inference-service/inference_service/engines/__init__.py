"""What is known of vLLM and llama.cpp: how they are installed, asked to start, understood and spoken to."""
