"""What the shell can ask: one module a command, each with ``main(arguments) -> exit status``."""
