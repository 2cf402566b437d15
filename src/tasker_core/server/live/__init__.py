"""Tell readers what happens while it happens.

One reader of the database serves all readers of the server: what it finds is written down
once, and everybody is rung for.

live.py    the one reader: as long as somebody listens, it looks at the history
topic.py   what is known of one task, or of all: a window of events, and a bell
event.py   one event: its id, what it says, and how it looks in a stream
stream.py  what one reader gets: what it missed, what comes, heartbeats, an end
"""
