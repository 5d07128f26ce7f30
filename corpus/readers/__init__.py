"""Corpora as they lie on disk, a module a layout: `layouts` picks one."""
