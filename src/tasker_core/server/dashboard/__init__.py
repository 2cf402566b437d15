"""Pages for a browser: everything that the API shows and does, for a person.

A page is made of the API's own answers: a function of `routes/` is asked, and a template of
`templates/` shows what it says. So the pages know no state, no rule and no statement.

- `pages`: what all pages share; errors as pages, links, what the caller may do.
- `overview`, `tasks`, `task`, `steps`, `registered`, `letters`, `at_work`: the pages.
- `act`: forms → the actions of the API.
- `graph`, `timeline`: where the boxes and bars of a picture stand.
- `login`, `door`: a cookie that says who calls, for these pages alone.
- `files`: the style sheet and the programs of the pages.
"""
