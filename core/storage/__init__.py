"""Plain files: `arrays` and text; `folders` written whole or not at all."""
