"""What application authors write against. No database here.

In the order of an attempt: the `registry` finds a handler by name (`discovery`,
`resolvers`, `chain`) and prepares it to be run (`bound`); the `context` shows the
handler its inputs (`event` and `models` are the same as one document), and `current`
notes for log lines (`logs`) whose turn it is; the handler is a class (`base`) or a
decorated function (`functional`, `functional_kinds`, `injection`), and may call HTTP
APIs (`api`), decide what comes next (`decision`) or do its work in batches (`batch`);
what it returns or raises becomes a `result`, and `events` tell of it.
"""
