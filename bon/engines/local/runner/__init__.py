"""Decode steps of GPT-2's and Llama's designs, written from their formulas: a step calls no code of transformers."""
