"""Cryptography by libraries (`crypto`), and the outside issuer whose users may sign in (`openid`)."""
