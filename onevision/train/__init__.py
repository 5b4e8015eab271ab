"""How the model learns; the only room that may know about several processes."""
