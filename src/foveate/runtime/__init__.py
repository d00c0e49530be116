"""What runs a model: loading, image files, chat templates, conversations, timing and warnings."""
