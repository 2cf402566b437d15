"""From a YAML file to a checked template and its graph; no database here.

The flow, one module a stage::

    document   text → values, and where each was written
    shape      values → the definition: keys, types, bounds   (read with block)
    validate   what the definition says as a whole            (branches: dynamic steps)
    model      the definition → TaskTemplate
    load       all of the above: files in, reports out
    graph      which steps exist at creation, and in which order
    inputs     does a context fit the template?

`findings` collects what there is to say on the way.
"""
