"""What proves an adapter: laws, tiny models, and the doctor that runs them."""
