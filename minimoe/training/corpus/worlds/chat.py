"""Chat tasks: the user's question, the thinking, and the answer. Every task occurs in both modes."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from minimoe.training.corpus.worlds import lexicon as words
from minimoe.training.corpus.worlds.arithmetic import Problem, problem
from minimoe.training.corpus.worlds.functions import Function, function
from minimoe.training.corpus.worlds.more_sentences import sentence
from minimoe.training.corpus.worlds.stories import story


@dataclass(frozen=True)
class Turn:
    """One exchange. `key` identifies its subject: the splits never share a key (None: too common to be held out)."""

    kind: str
    question: str
    thinking: str
    answer: str
    key: str | None


def translate_to_chinese(rng: Random) -> Turn:
    """Translation from English to Chinese; the thinking pairs the phrases of both languages."""
    given = sentence(rng)
    ask = rng.choice(
        (
            "Translate into Chinese: {}",
            "Translate to Chinese: {}",
            "How do you say this in Chinese? {}",
            "What is this in Chinese? {}",
            "翻译成中文：{}",
        )
    )
    notes = "\n".join(f"{english} = {chinese}" for english, chinese in given.glosses)
    return Turn("to_chinese", ask.format(given.english), notes, given.chinese, given.english)


def translate_to_english(rng: Random) -> Turn:
    """Translation from Chinese to English."""
    given = sentence(rng)
    ask = rng.choice(
        (
            "翻译成英文：{}",
            "把这句话翻译成英文：{}",
            "这句话用英文怎么说？{}",
            "Translate into English: {}",
            "Translate to English: {}",
        )
    )
    notes = "\n".join(f"{chinese} = {english}" for english, chinese in given.glosses)
    return Turn("to_english", ask.format(given.chinese), notes, given.english, given.english)


def translate_word(rng: Random) -> Turn:
    """Translation of a single word, in either direction."""
    nouns = [(noun.english, noun.chinese) for noun in words.ANIMALS + words.OBJECTS + words.FOODS]
    english, chinese = rng.choice(nouns + list(words.COLOURS + words.MOODS + words.JOBS + words.DRINKS + words.DAYS))
    note = f"{english} = {chinese}"
    if rng.random() < 0.5:
        ask = rng.choice(("How do you say {} in Chinese?", "What is the Chinese word for {}?", "{}用中文怎么说？"))
        return Turn("word", ask.format(english), note, f"{chinese}。", None)
    ask = rng.choice(("What does {} mean?", "{}是什么意思？", "{}用英文怎么说？"))
    return Turn("word", ask.format(chinese), note, capital_word(english) + ".", None)


def capital_word(text: str) -> str:
    return text[0].upper() + text[1:]


def calculate(rng: Random) -> Turn:
    """A sum, difference or product; the thinking is the written working."""
    return calculation(rng, problem(rng))


def calculation(rng: Random, given: Problem) -> Turn:
    """The turn for a given problem, in one of several phrasings."""
    ask = rng.choice(("What is {}?", "Calculate {}.", "{} = ?", "How much is {}?", "{}等于多少？", "计算{}。"))
    return Turn("arithmetic", ask.format(given.text), given.working, f"{given.text} = {given.result}", given.key)


def compare(rng: Random) -> Turn:
    """The larger of two numbers."""
    low = rng.randint(10, 9000)
    high = low + rng.choice((rng.randint(1, 9), rng.randint(10, 99), rng.randint(100, 999)))
    pair = [low, high]
    rng.shuffle(pair)
    ask = rng.choice(("Which is bigger, {} or {}?", "{}和{}哪个大？"))
    thinking = f"{pair[0]} has {len(str(pair[0]))} digits, {pair[1]} has {len(str(pair[1]))} digits.\n{high} > {low}"
    return Turn("compare", ask.format(*pair), thinking, f"{high}.", f"{low}<{high}")


def write_function(rng: Random) -> Turn:
    """A Python function for a description, with one call worked out."""
    given = function(rng)
    ask = rng.choice(
        ("Write a Python function that {}.", "Please write a function that {}.", "Python: a function that {}.")
    )
    question = ask.format(given.task[0]) if rng.random() < 0.7 else f"写一个Python函数，{given.task[1]}。"
    return Turn(
        "python",
        question,
        f"{given.plan}\nname: {given.name}",
        f"```python\n{given.source}```\n{given.worked}",
        given.key,
    )


def run_function(rng: Random) -> Turn:
    """The return value of a given function call."""
    given: Function = function(rng)
    call, result = given.calls[0]
    ask = rng.choice(("What does `{}` return?", "What is the result of `{}`?", "`{}`的结果是什么？"))
    return Turn(
        "run",
        f"```python\n{given.source}```\n{ask.format(call)}",
        f"{given.plan}\n{given.arguments[0]}: {given.traces[0]}",
        f"`{result}`",
        given.key,
    )


def answer_question(rng: Random) -> Turn:
    """One or two sentences, then a question about one of them, in either language."""
    facts = [sentence(rng) for _ in range(rng.choice((1, 1, 2)))]
    subject = rng.choice(facts)
    question = rng.choice(subject.questions)
    if rng.random() < 0.5:
        text, ask, answer, thinking = " ".join(fact.english for fact in facts), *question.english, subject.english
    else:
        text, ask, answer, thinking = "".join(fact.chinese for fact in facts), *question.chinese, subject.chinese
    separator = rng.choice((" ", "\n")) if text.isascii() else rng.choice(("", "\n"))
    return Turn("question", text + separator + ask, thinking, answer, subject.english)


def tell_story(rng: Random) -> Turn:
    """A short story about a given person."""
    given = story(rng)
    if rng.random() < 0.5:
        ask = rng.choice(("Tell me a story about {}.", "Tell a short story about {}.", "Write a story about {}."))
        return Turn("story", ask.format(given.hero[0]), given.plan[0], given.english, given.english)
    ask = rng.choice(("讲一个关于{}的故事。", "请讲一个{}的故事。", "写一个关于{}的小故事。"))
    return Turn("story", ask.format(given.hero[1]), given.plan[1], given.chinese, given.english)


GREETINGS = (
    ("Hello!", "The user greets me.", "Hello! How can I help you?"),
    ("Hi!", "The user greets me.", "Hello! How can I help you?"),
    ("Good morning!", "The user greets me.", "Good morning! What can I do for you?"),
    ("你好！", "用户在打招呼。", "你好！我能帮你什么？"),
    ("你好", "用户在打招呼。", "你好！我能帮你什么？"),
    ("早上好！", "用户在打招呼。", "早上好！我能帮你什么？"),
    ("Who are you?", "The user asks who I am.", "I am a very small language model with 128 experts in each layer."),
    (
        "What is your name?",
        "The user asks who I am.",
        "I am a very small language model with 128 experts in each layer.",
    ),
    ("你是谁？", "用户问我是谁。", "我是一个很小的语言模型，每层有128个专家。"),
    (
        "What can you do?",
        "The user asks what I can do.",
        "I can translate between English and Chinese, add numbers, write small Python functions and tell short stories.",
    ),
    ("你会做什么？", "用户问我会做什么。", "我会翻译中文和英文，会算术，会写小的Python函数，还会讲故事。"),
    ("Thank you!", "The user thanks me.", "You are welcome!"),
    ("谢谢！", "用户在道谢。", "不客气！"),
    ("Goodbye!", "The user says goodbye.", "Goodbye!"),
    ("再见！", "用户在道别。", "再见！"),
)


def greet(rng: Random) -> Turn:
    """One of a few fixed exchanges: greetings, thanks, goodbyes and questions about the model itself."""
    question, thinking, answer = rng.choice(GREETINGS)
    return Turn("greeting", question, thinking, answer, None)


TASKS: dict[Callable[[Random], Turn], int] = {
    translate_to_chinese: 30,
    translate_to_english: 30,
    calculate: 20,
    write_function: 14,
    answer_question: 12,
    tell_story: 4,
    run_function: 5,
    translate_word: 4,
    compare: 3,
    greet: 4,
}


def turn(rng: Random) -> Turn:
    """A random exchange of any kind."""
    return rng.choices(list(TASKS), weights=list(TASKS.values()))[0](rng)


def render_user(question: str) -> str:
    """The user's message and the opening of the answer, in ChatML."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
