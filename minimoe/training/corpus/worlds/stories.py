"""Short stories in both languages: a person wants a thing, looks for it and meets a helper; most end well."""

from dataclasses import dataclass
from random import Random

from minimoe.training.corpus.worlds import lexicon as words
from minimoe.training.corpus.worlds.lexicon import capital, counted


@dataclass(frozen=True)
class Story:
    """A story with its hero and plan ("who", "what" and "where", a line each), all in English and Chinese."""

    english: str
    chinese: str
    hero: tuple[str, str]
    plan: tuple[str, str]


def story(rng: Random) -> Story:
    """A story of eight sentences, with random events and wording."""
    animal_hero = rng.random() < 0.5
    person, friend = rng.sample(words.PEOPLE, 2)
    beast, helper = rng.sample(words.ANIMALS, 2)
    he = "it" if animal_hero else person.he
    his = "its" if animal_hero else person.his
    ta = "它" if animal_hero else person.ta
    hero = (f"the {beast.english}", beast.chinese) if animal_hero else (person.english, person.chinese)
    size = rng.choice(words.SIZES)
    start = counted(1, beast, size) if animal_hero else hero
    home, place = rng.sample(words.PLACES, 2)
    noun = rng.choice(words.OBJECTS)
    colour = rng.choice(words.COLOURS)
    one, one_zh = (
        f"{words.article(colour[0])} {colour[0]} {noun.english}",
        f"一{noun.measure}{colour[1]}的{noun.chinese}",
    )
    food = rng.choice(words.FOODS)
    meal = counted(rng.randint(2, 9), food)

    lines = [
        rng.choice(
            (
                (f"Once upon a time {start[0]} lived {home.where}.", f"从前，{start[1]}住在{home.inside}。"),
                (f"Long ago there lived {start[0]} {home.where}.", f"很久以前，{start[1]}住在{home.inside}。"),
            )
        )
    ]
    lines.append(
        rng.choice(
            (
                (
                    f"One day {hero[0]} lost {his} {colour[0]} {noun.english}.",
                    f"有一天，{hero[1]}丢了{colour[1]}的{noun.chinese}。",
                ),
                (f"One day {hero[0]} wanted {one}.", f"有一天，{hero[1]}想要{one_zh}。"),
            )
        )
    )
    lines.append(
        rng.choice(
            (
                (f"{capital(he)} went to {place.english} to look for it.", f"{ta}去{place.chinese}找它。"),
                (f"So {he} looked for it {place.where}.", f"所以{ta}在{place.inside}找它。"),
            )
        )
    )
    lines.append(
        rng.choice(
            (
                (
                    f"There {he} met {words.article(helper.english)} {helper.english}.",
                    f"在那里，{ta}遇见了一{helper.measure}{helper.chinese}。",
                ),
                (f"There {he} saw {friend.english}.", f"在那里，{ta}看见了{friend.chinese}。"),
            )
        )
    )
    met = (f"the {helper.english}", helper.chinese) if "met" in lines[-1][0] else (friend.english, friend.chinese)
    lines.append(
        rng.choice(
            (
                (f'"I am hungry," said {met[0]}.', f"“我饿了。”{met[1]}说。"),
                (f'"Can you help me?" asked {hero[0]}.', f"“你能帮我吗？”{hero[1]}问。"),
            )
        )
    )
    if "hungry" in lines[-1][0]:
        lines.append((f"{capital(hero[0])} gave {met[0]} {meal[0]}.", f"{hero[1]}给了{met[1]}{meal[1]}。"))
    else:
        lines.append((f'"Yes, I can," said {met[0]}.', f"“能。”{met[1]}说。"))
    lines.append(
        rng.choice(
            (
                (f"Then they found the {noun.english} under a tree.", f"后来他们在一棵树下找到了{noun.chinese}。"),
                (f"Then {met[0]} gave {hero[0]} {one}.", f"后来{met[1]}给了{hero[1]}{one_zh}。"),
                (f"But they did not find the {noun.english}.", f"但是他们没有找到{noun.chinese}。"),
            )
        )
    )
    ending = rng.choice((("they became good friends", "他们成了好朋友"), ("they went home together", "他们一起回家了")))
    if "But" in lines[-1][0]:
        lines.append((f"{capital(hero[0])} was sad, but {ending[0]}.", f"{hero[1]}很难过，但是{ending[1]}。"))
    else:
        lines.append((f"{capital(hero[0])} was happy, and {ending[0]}.", f"{hero[1]}很高兴，{ending[1]}。"))
    return Story(
        " ".join(english for english, _ in lines),
        "".join(chinese for _, chinese in lines),
        hero,
        (
            f"who: {hero[0]}\nwhat: {colour[0]} {noun.english}\nwhere: {place.english}",
            f"谁：{hero[1]}\n什么：{colour[1]}的{noun.chinese}\n哪里：{place.chinese}",
        ),
    )
