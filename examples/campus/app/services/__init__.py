"""The work of the steps, as plain async functions.

They take values and give models, and know nothing of steps and tasks but two things: the
uuid that makes their work safe to repeat, and the errors that say whether repeating helps.
"""
