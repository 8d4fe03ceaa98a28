"""Tables, images and bundled sets, read and encoded as features and labels."""
