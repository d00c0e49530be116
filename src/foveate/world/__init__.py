"""A procedural world of drawn scenes and questions, and the small model that is trained on it and shipped."""
