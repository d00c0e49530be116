"""A generated world of drawn scenes and questions, and the small bundled models that were trained on it."""
