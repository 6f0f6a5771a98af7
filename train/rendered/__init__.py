"""Rendered heads: a face model whose muscles are known, in random people, light and cameras."""
