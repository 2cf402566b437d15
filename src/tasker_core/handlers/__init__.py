"""What application authors write against. No database here.

In the order of an attempt: the `registry` finds a handler by name (`discovery`,
`resolvers`, `chain`) and prepares it to be run (`bound`); the `context` shows the
handler its inputs; the handler is a class (`base`) or a decorated function
(`functional`, `injection`); what it returns or raises becomes a `result`.
"""
