"""More sentence frames: causes and weather, comparisons, gifts, prices, times, habits and wishes."""

from collections.abc import Callable
from random import Random

from minimoe.training.corpus.worlds import lexicon as words
from minimoe.training.corpus.worlds.lexicon import NUMBERS, article, capital, counted, described, pick_adjectives
from minimoe.training.corpus.worlds.sentences import FIRST_FRAMES, Scene, Sentence, ask, thing


def every_day(scene: Scene) -> Sentence:
    rng, who, place = scene.rng, scene.person, scene.place
    deed = rng.choice(words.DEEDS)
    when, tag = rng.choice(
        (
            ("every morning", "每天早上"),
            ("every day", "每天"),
            ("every evening", "每天晚上"),
            *((f"every {e}", f"每个{c}") for e, c in words.DAYS),
        )
    )
    return Sentence(
        f"{who.english} {deed.third} {place.where} {when}.",
        f"{who.chinese}{tag}在{place.inside}{deed.chinese}。",
        ((who.english, who.chinese), (when, tag), (deed.third, deed.chinese), (place.where, place.inside)),
        (
            ask(
                f"When does {who.english} {deed.base}?",
                capital(when) + ".",
                f"{who.chinese}什么时候{deed.chinese}？",
                f"{tag}。",
            ),
            ask(
                f"Where does {who.english} {deed.base}?",
                capital(place.where) + ".",
                f"{who.chinese}在哪里{deed.chinese}？",
                f"在{place.inside}。",
            ),
        ),
    )


def gave(scene: Scene) -> Sentence:
    who, friend = scene.person, scene.friend
    _, _, _, (english, chinese) = thing(scene.rng, kinds=words.OBJECTS + words.FOODS)
    return Sentence(
        f"{who.english} gave {friend.english} {english}.",
        f"{who.chinese}给了{friend.chinese}{chinese}。",
        ((who.english, who.chinese), ("gave", "给了"), (friend.english, friend.chinese), (english, chinese)),
        (
            ask(
                f"What did {who.english} give {friend.english}?",
                capital(english) + ".",
                f"{who.chinese}给了{friend.chinese}什么？",
                chinese + "。",
            ),
            ask(
                f"Who gave {friend.english} {english}?",
                who.english + ".",
                f"谁给了{friend.chinese}{chinese}？",
                who.chinese + "。",
            ),
        ),
    )


def has_colour(scene: Scene) -> Sentence:
    rng = scene.rng
    noun, (colour, colour_zh), place = rng.choice(words.ANIMALS + words.OBJECTS), rng.choice(words.COLOURS), scene.place
    return Sentence(
        f"The {noun.english} {place.where} is {colour}.",
        f"{place.inside}的{noun.chinese}是{colour_zh}的。",
        ((f"the {noun.english}", noun.chinese), (place.where, place.inside), (colour, colour_zh)),
        (
            ask(
                f"What colour is the {noun.english}?",
                capital(colour) + ".",
                f"{noun.chinese}是什么颜色的？",
                f"{colour_zh}的。",
            ),
        ),
    )


def lies_somewhere(scene: Scene) -> Sentence:
    rng = scene.rng
    small, big = (
        rng.choice(words.OBJECTS + words.FOODS),
        rng.choice([n for n in words.OBJECTS if n.english in ("table", "chair", "box", "car", "bag", "boat")]),
    )
    if small == big:
        small = words.FOODS[0]
    where, where_zh = rng.choice((("on", "上"), ("under", "下面"), ("next to", "旁边"), ("behind", "后面")))
    adjectives = pick_adjectives(rng, small)
    english, chinese = " ".join(["the", *(a for a, _ in adjectives), small.english]), described(small, *adjectives)
    return Sentence(
        f"{capital(english)} is {where} the {big.english}.",
        f"{chinese}在{big.chinese}{where_zh}。",
        ((english, chinese), (f"{where} the {big.english}", f"{big.chinese}{where_zh}")),
        (
            ask(
                f"Where is {english}?",
                capital(f"{where} the {big.english}."),
                f"{chinese}在哪里？",
                f"在{big.chinese}{where_zh}。",
            ),
            ask(
                f"What is {where} the {big.english}?",
                f"{capital(english)}.",
                f"{big.chinese}{where_zh}有什么？",
                f"{chinese}。",
            ),
        ),
    )


def compares(scene: Scene) -> Sentence:
    rng = scene.rng
    if rng.random() < 0.5:
        less, more = sorted(rng.sample(range(len(words.ANIMALS)), 2))
        small, big = words.ANIMALS[less], words.ANIMALS[more]
        if rng.random() < 0.5:
            return Sentence(
                f"The {big.english} is bigger than the {small.english}.",
                f"{big.chinese}比{small.chinese}大。",
                ((f"the {big.english}", big.chinese), ("bigger", "大"), (f"the {small.english}", small.chinese)),
                (ask("Which animal is bigger?", f"The {big.english}.", "哪种动物更大？", f"{big.chinese}。"),),
            )
        return Sentence(
            f"The {small.english} is smaller than the {big.english}.",
            f"{small.chinese}比{big.chinese}小。",
            ((f"the {small.english}", small.chinese), ("smaller", "小"), (f"the {big.english}", big.chinese)),
            (ask("Which animal is smaller?", f"The {small.english}.", "哪种动物更小？", f"{small.chinese}。"),),
        )
    word, word_zh = rng.choice(
        (("taller", "高"), ("older", "大"), ("faster", "快"), ("stronger", "强壮"), ("shorter", "矮"), ("slower", "慢"))
    )
    verb = "年纪比{}大" if word == "older" else "比{}" + word_zh
    who, friend = scene.person, scene.friend
    return Sentence(
        f"{who.english} is {word} than {friend.english}.",
        f"{who.chinese}{verb.format(friend.chinese)}。",
        ((who.english, who.chinese), (word, word_zh), (friend.english, friend.chinese)),
        (
            ask(
                f"Who is {word}?",
                who.english + ".",
                f"谁{'年纪更大' if word == 'older' else '更' + word_zh}？",
                who.chinese + "。",
            ),
        ),
    )


def feels_because(scene: Scene) -> Sentence:
    rng, who, friend = scene.rng, scene.person, scene.friend
    noun = rng.choice(words.OBJECTS)
    adjectives = pick_adjectives(rng, noun)
    mine = " ".join([*(a for a, _ in adjectives), noun.english])
    mine_zh = described(noun, *adjectives).replace("色的", "色")  # after 她的 a second 的 would be clumsy
    (drink, drink_zh), hours = rng.choice(words.DRINKS), rng.randint(2, 12)
    mood, mood_zh, because, because_zh = rng.choice(
        (
            ("happy", "高兴", f"{who.he} found {who.his} {mine}", f"{who.ta}找到了{who.ta}的{mine_zh}"),
            ("sad", "难过", f"{who.he} lost {who.his} {mine}", f"{who.ta}丢了{who.ta}的{mine_zh}"),
            ("angry", "生气", f"{friend.english} took {who.his} {mine}", f"{friend.chinese}拿走了{who.ta}的{mine_zh}"),
            (
                "tired",
                "累",
                f"{who.he} worked for {NUMBERS[hours]} hours",
                f"{who.ta}工作了{words.chinese_count(hours)}个小时",
            ),
            (
                "hungry",
                "饿",
                f"{who.he} did not eat {(meal := rng.choice((('breakfast', '早饭'), ('lunch', '午饭'), ('dinner', '晚饭'))))[0]}",
                f"{who.ta}没有吃{meal[1]}",
            ),
            ("thirsty", "渴", f"{who.he} did not drink {drink}", f"{who.ta}没有喝{drink_zh}"),
        )
    )
    return Sentence(
        f"{who.english} is {mood} because {because}.",
        f"{who.chinese}很{mood_zh}，因为{because_zh}。",
        ((who.english, who.chinese), (mood, mood_zh), (f"because {because}", f"因为{because_zh}")),
        (
            ask(
                f"Why is {who.english} {mood}?",
                f"Because {because}.",
                f"{who.chinese}为什么{mood_zh}？",
                f"因为{because_zh}。",
            ),
            ask(f"Who is {mood}?", who.english + ".", f"谁很{mood_zh}？", who.chinese + "。"),
        ),
    )


def weather(scene: Scene) -> Sentence:
    rng, who, place = scene.rng, scene.person, scene.place
    sky, sky_zh, effects = rng.choice(
        (
            (
                "it is raining",
                "下雨",
                (("takes an umbrella", "带了雨伞"), ("stays at home", "待在家里"), ("reads at home", "在家里看书")),
            ),
            (
                "it is snowing",
                "下雪",
                (("wears a coat", "穿了外套"), ("stays at home", "待在家里"), ("makes a snowman", "堆雪人")),
            ),
            ("it is windy", "刮风", (("flies a kite", "放风筝"), ("wears a coat", "穿了外套"))),
            (
                "the sun is shining",
                "出太阳",
                ((f"goes to {place.english}", f"去{place.chinese}"), ("wears a hat", "戴了帽子")),
            ),
            ("it is hot", "很热", (("drinks cold water", "喝冷水"), ("wears a hat", "戴了帽子"))),
            ("it is cold", "很冷", (("drinks hot tea", "喝热茶"), ("wears a coat", "穿了外套"))),
        )
    )
    effect, effect_zh = rng.choice(effects)
    return Sentence(
        f"Today {sky}, so {who.english} {effect}.",
        f"今天{sky_zh}，所以{who.chinese}{effect_zh}。",
        ((f"today {sky}", f"今天{sky_zh}"), (who.english, who.chinese), (effect, effect_zh)),
        (ask("What is the weather like today?", f"{capital(sky)}.", "今天天气怎么样？", f"今天{sky_zh}。"),),
    )


def wants(scene: Scene) -> Sentence:
    rng, who = scene.rng, scene.person
    drink, drink_zh = rng.choice(words.DRINKS)
    food = rng.choice(words.FOODS)
    number = rng.randint(1, 6)
    food_english, food_chinese = counted(number, food)
    noun = rng.choice(words.OBJECTS)
    thing_english, thing_chinese = counted(1, noun, *pick_adjectives(rng, noun))
    wish, wish_zh = rng.choice(
        (
            (f"drink {drink}", f"喝{drink_zh}"),
            (f"eat {food_english}", f"吃{food_chinese}"),
            (f"buy {thing_english}", f"买{thing_chinese}"),
            (f"go to {scene.place.english}", f"去{scene.place.chinese}"),
        )
    )
    return Sentence(
        f"{who.english} wants to {wish}.",
        f"{who.chinese}想{wish_zh}。",
        ((who.english, who.chinese), (f"wants to {wish}", f"想{wish_zh}")),
        (ask(f"What does {who.english} want to do?", capital(wish) + ".", f"{who.chinese}想做什么？", wish_zh + "。"),),
    )


def costs(scene: Scene) -> Sentence:
    rng = scene.rng
    noun, price = rng.choice(words.OBJECTS), rng.randint(1, 12)
    adjectives = pick_adjectives(rng, noun)
    english, chinese = " ".join([*(a for a, _ in adjectives), noun.english]), described(noun, *adjectives)
    return Sentence(
        f"This {english} costs {NUMBERS[price]} yuan.",
        f"这{noun.measure}{chinese}要{words.chinese_count(price)}块钱。",
        (
            (f"this {english}", f"这{noun.measure}{chinese}"),
            (f"{NUMBERS[price]} yuan", f"{words.chinese_count(price)}块钱"),
        ),
        (
            ask(
                f"How much is the {noun.english}?",
                f"{capital(NUMBERS[price])} yuan.",
                f"这{noun.measure}{noun.chinese}多少钱？",
                f"{words.chinese_count(price)}块钱。",
            ),
        ),
    )


def gets_up(scene: Scene) -> Sentence:
    rng, who, hour = scene.rng, scene.person, scene.rng.randint(1, 12)
    verb, base, verb_zh = rng.choice(
        (
            ("gets up", "get up", "起床"),
            ("goes to bed", "go to bed", "睡觉"),
            ("goes to school", "go to school", "上学"),
            ("goes home", "go home", "回家"),
            ("eats dinner", "eat dinner", "吃晚饭"),
        )
    )
    clock = words.chinese_count(hour) + "点"
    return Sentence(
        f"{who.english} {verb} at {NUMBERS[hour]} o'clock.",
        f"{who.chinese}{clock}{verb_zh}。",
        ((who.english, who.chinese), (f"at {NUMBERS[hour]} o'clock", clock), (verb, verb_zh)),
        (
            ask(
                f"When does {who.english} {base}?",
                f"At {NUMBERS[hour]} o'clock.",
                f"{who.chinese}几点{verb_zh}？",
                f"{clock}。",
            ),
        ),
    )


def is_a(scene: Scene) -> Sentence:
    rng, who = scene.rng, scene.person
    (job, job_zh), age = rng.choice(words.JOBS), rng.randint(1, 12)
    if rng.random() < 0.5:
        return Sentence(
            f"{who.english} is {NUMBERS[age]} years old.",
            f"{who.chinese}{words.chinese_count(age)}岁。",
            ((who.english, who.chinese), (f"{NUMBERS[age]} years old", f"{words.chinese_count(age)}岁")),
            (
                ask(
                    f"How old is {who.english}?",
                    f"{capital(NUMBERS[age])}.",
                    f"{who.chinese}几岁？",
                    f"{words.chinese_count(age)}岁。",
                ),
            ),
        )
    place = scene.place
    return Sentence(
        f"{who.english} is {article(job)} {job} and works {place.where}.",
        f"{who.chinese}是{job_zh}，在{place.inside}工作。",
        (
            (who.english, who.chinese),
            (f"{article(job)} {job}", job_zh),
            (f"works {place.where}", f"在{place.inside}工作"),
        ),
        (
            ask(
                f"What is {who.english}?",
                capital(f"{article(job)} {job}."),
                f"{who.chinese}是做什么的？",
                f"{job_zh}。",
            ),
            ask(
                f"Where does {who.english} work?",
                capital(place.where) + ".",
                f"{who.chinese}在哪里工作？",
                f"在{place.inside}。",
            ),
        ),
    )


FRAMES = (
    *FIRST_FRAMES,
    every_day,
    gave,
    has_colour,
    lies_somewhere,
    compares,
    feels_because,
    weather,
    wants,
    costs,
    gets_up,
    is_a,
)


def sentence(rng: Random, scene: Scene | None = None) -> Sentence:
    """A sentence from a random frame; with a scene, it uses its person and place."""
    frame: Callable[[Scene], Sentence] = rng.choice(FRAMES)
    return frame(scene or Scene.draw(rng))
