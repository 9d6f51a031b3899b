"""The small world that the mini checkpoint speaks about: sentences in two languages, stories, Python, arithmetic, chats."""
