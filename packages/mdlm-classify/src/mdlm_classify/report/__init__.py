"""What an evaluation says: a card in JSON, and a page with figures."""
