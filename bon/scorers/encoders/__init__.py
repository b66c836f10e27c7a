"""DistilBERT's, BERT's and RoBERTa's classifiers, written from their formulas: they read texts without padding."""
