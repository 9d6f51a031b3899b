"""The small world of the mini checkpoint's corpus: bilingual sentences, stories, Python, arithmetic, chats."""
