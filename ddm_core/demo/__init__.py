"""The demo page: a photo encrypted, sent through a channel, decrypted with the right and a wrong key."""
