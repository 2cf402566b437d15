"""`tasker-ctl template generate`: from a scaffold template to files, in this order.

commands.py    the command line, and what it answers
config.py      where plugins are looked for, and the defaults
manifest.py    a plugin's `tasker-plugin.toml`, and each template's `template.toml`
plugins.py     find plugins, and the one template that is meant
parameters.py  `--param key=value` → checked values
names.py       ValidateCart → validate_cart, and what may be a name
render.py      sources and values → the text of every file
package.py     Python files → a package that can be imported, and tests that find it
exports.py     beneath it: add names to an `__init__.py`, and leave the rest alone
write.py       all files, or none
errors.py      whatever can be wrong, with what to do about it

python/        the plugin that comes with Tasker: what it generates, as Jinja2 sources

A scaffold template is no task template; that is one of the things it can generate.
"""
