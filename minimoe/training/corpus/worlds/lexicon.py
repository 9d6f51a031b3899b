"""The lexicon of the small world in English and Chinese, and the grammar of counted nouns."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Person:
    """A person: the name and the pronouns in English and Chinese."""

    english: str
    chinese: str
    he: str

    @property
    def him(self) -> str:
        return "him" if self.he == "he" else "her"

    @property
    def his(self) -> str:
        return "his" if self.he == "he" else "her"

    @property
    def ta(self) -> str:
        return "他" if self.he == "he" else "她"


@dataclass(frozen=True)
class Noun:
    """A countable noun; `measure` is the Chinese measure word between number and noun."""

    english: str
    plural: str
    chinese: str
    measure: str


@dataclass(frozen=True)
class Place:
    """`where` follows a verb ("in the park"), `inside` follows 在 ("公园里"), the other two are the bare names."""

    where: str
    english: str
    inside: str
    chinese: str


@dataclass(frozen=True)
class Verb:
    """A verb: base form, third person, -ing form, past, Chinese."""

    base: str
    third: str
    ing: str
    past: str
    chinese: str


def table(kind: type, text: str) -> tuple:
    """Parse `text` into objects of `kind`: entries separated by ";" or line breaks, fields by commas."""
    rows = text.strip().replace("\n", ";").split(";")
    return tuple(kind(*(field.strip() for field in row.split(","))) for row in rows)


PEOPLE: tuple[Person, ...] = table(
    Person,
    """
Tom,汤姆,he; Anna,安娜,she; Lucy,露西,she; Jack,杰克,he; Mary,玛丽,she; Peter,彼得,he; Lily,莉莉,she; Sam,山姆,he
Xiao Ming,小明,he; Xiao Hong,小红,she; Li Hua,李华,he; Mei,小梅,she""",
)

ANIMALS: tuple[Noun, ...] = table(
    Noun,
    """
mouse,mice,老鼠,只; frog,frogs,青蛙,只; bird,birds,鸟,只; fish,fish,鱼,条; duck,ducks,鸭子,只; rabbit,rabbits,兔子,只
cat,cats,猫,只; fox,foxes,狐狸,只; monkey,monkeys,猴子,只; dog,dogs,狗,只; sheep,sheep,羊,只; pig,pigs,猪,头
tiger,tigers,老虎,只; bear,bears,熊,只; cow,cows,牛,头; horse,horses,马,匹; elephant,elephants,大象,头""",
)
# In order of size, smallest first, so that comparisons in the corpus are true.

OBJECTS: tuple[Noun, ...] = table(
    Noun,
    """
book,books,书,本; ball,balls,球,个; hat,hats,帽子,顶; car,cars,汽车,辆; flower,flowers,花,朵; cup,cups,杯子,个
chair,chairs,椅子,把; table,tables,桌子,张; umbrella,umbrellas,雨伞,把; pen,pens,笔,支; bag,bags,包,个; box,boxes,盒子,个
boat,boats,船,条; bicycle,bicycles,自行车,辆; kite,kites,风筝,只; picture,pictures,画,幅; shirt,shirts,衬衫,件
coat,coats,外套,件; key,keys,钥匙,把; lamp,lamps,灯,盏""",
)

FOODS: tuple[Noun, ...] = table(
    Noun,
    """
apple,apples,苹果,个; banana,bananas,香蕉,根; orange,oranges,橙子,个; egg,eggs,鸡蛋,个; cake,cakes,蛋糕,个; carrot,carrots,胡萝卜,根
potato,potatoes,土豆,个; tomato,tomatoes,西红柿,个; peach,peaches,桃子,个; lemon,lemons,柠檬,个""",
)

DRINKS = (("water", "水"), ("milk", "牛奶"), ("tea", "茶"), ("juice", "果汁"), ("soup", "汤"), ("coffee", "咖啡"))

PLACES: tuple[Place, ...] = table(
    Place,
    """
in the park,the park,公园里,公园; in the garden,the garden,花园里,花园; in the kitchen,the kitchen,厨房里,厨房
by the lake,the lake,湖边,湖边; by the river,the river,河边,河边; on the mountain,the mountain,山上,山上
in the forest,the forest,森林里,森林; in the shop,the shop,商店里,商店; in the library,the library,图书馆里,图书馆
on the farm,the farm,农场里,农场; on the street,the street,街上,街上; on the beach,the beach,海滩上,海滩
in the village,the village,村子里,村子; at the market,the market,市场里,市场; at the station,the station,车站里,车站
in the classroom,the classroom,教室里,教室; at the zoo,the zoo,动物园里,动物园""",
)

DEEDS: tuple[Verb, ...] = table(
    Verb,
    """
play,plays,playing,played,玩; sleep,sleeps,sleeping,slept,睡觉; run,runs,running,ran,跑步; sing,sings,singing,sang,唱歌
dance,dances,dancing,danced,跳舞; walk,walks,walking,walked,散步; read,reads,reading,read,看书; work,works,working,worked,工作
rest,rests,resting,rested,休息; study,studies,studying,studied,学习; draw,draws,drawing,drew,画画""",
)

ANIMAL_DEEDS: tuple[Verb, ...] = table(
    Verb,
    """
play,plays,playing,played,玩; sleep,sleeps,sleeping,slept,睡觉; run,runs,running,ran,跑; rest,rests,resting,rested,休息
jump,jumps,jumping,jumped,跳来跳去; eat,eats,eating,ate,吃东西""",
)

OBTAIN: tuple[Verb, ...] = table(
    Verb,
    """
buy,buys,buying,bought,买了; see,sees,seeing,saw,看见了; find,finds,finding,found,找到了; lose,loses,losing,lost,丢了
draw,draws,drawing,drew,画了; sell,sells,selling,sold,卖了""",
)

COLOURS = (
    ("red", "红色"),
    ("blue", "蓝色"),
    ("green", "绿色"),
    ("yellow", "黄色"),
    ("white", "白色"),
    ("black", "黑色"),
    ("brown", "棕色"),
    ("pink", "粉色"),
    ("grey", "灰色"),
    ("purple", "紫色"),
)
SIZES = (("big", "大"), ("small", "小"))
AGES = (("new", "新"), ("old", "旧"))
MOODS = (
    ("happy", "高兴"),
    ("sad", "难过"),
    ("tired", "累"),
    ("hungry", "饿"),
    ("thirsty", "渴"),
    ("angry", "生气"),
    ("busy", "忙"),
)
JOBS = (
    ("teacher", "老师"),
    ("doctor", "医生"),
    ("farmer", "农民"),
    ("student", "学生"),
    ("singer", "歌手"),
    ("cook", "厨师"),
    ("driver", "司机"),
    ("painter", "画家"),
)
DAYS = (
    ("Monday", "星期一"),
    ("Tuesday", "星期二"),
    ("Wednesday", "星期三"),
    ("Thursday", "星期四"),
    ("Friday", "星期五"),
    ("Saturday", "星期六"),
    ("Sunday", "星期天"),
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
CHINESE_NUMBERS = ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")


def chinese_count(number: int) -> str:
    """The numeral before a measure word: 两, not 二, for two."""
    return "两" if number == 2 else CHINESE_NUMBERS[number]


def article(word: str) -> str:
    """ "a" or "an" before `word`, by its first letter (correct for all words of the lexicon)."""
    return "an" if word[0] in "aeiou" else "a"


def counted(number: int, noun: Noun, *adjectives: tuple[str, str]) -> tuple[str, str]:
    """("three big red balls", "三个红色的大球"). English order as given; in Chinese a colour with 的 comes before a bare adjective."""
    words = [english for english, _ in adjectives] + [noun.english if number == 1 else noun.plural]
    amount = article(words[0]) if number == 1 else NUMBERS[number]
    return " ".join([amount, *words]), chinese_count(number) + noun.measure + described(noun, *adjectives)


def described(noun: Noun, *adjectives: tuple[str, str]) -> str:
    """The Chinese noun with its adjectives: 红色的大球."""
    colours = "".join(pair[1] + "的" for pair in adjectives if pair in COLOURS)
    others = "".join(pair[1] for pair in adjectives if pair not in COLOURS)
    return colours + others + noun.chinese


# Words of the sentences and tasks that are in none of the tables above.
OTHER_CHINESE = frozenset(
    """
    今天 明天 昨天 下周 每天 每个 早上 晚上 早饭 午饭 晚饭 什么 时候 哪里 多少 怎么 为什么 谁
    喜欢 没有 正在 因为 所以 但是 后来 他们 它 有一天 朋友 一起 回家 看见 遇见 找到 拿走 下雨
    下雪 刮风 太阳 天气 雪人 年纪 强壮 上面 下面 旁边 后面 小时 点 块钱 起床 上学 翻译成 中文
    英文 这句话 意思 等于 计算 函数 列表 保留 大于 小于 整除 乘以 平方 偶数 奇数 判断 如果 否则
    返回 字母 个数 重复 变成 减去 除以 取整 开头 加上 它们 而且 故事 关于 现在 知道 可以 帮 帮助 你好 用户 动物 颜色
""".split()  # noqa: SIM905
)


def chinese_words() -> set[str]:
    """The Chinese words of the small world, with places both with and without their 里 or 上."""
    nouns = [noun.chinese for noun in ANIMALS + OBJECTS + FOODS] + [person.chinese for person in PEOPLE]
    places = [name for place in PLACES for name in (place.inside, place.chinese)]
    verbs = [verb.chinese for verb in DEEDS + ANIMAL_DEEDS + OBTAIN]
    pairs = [chinese for _, chinese in COLOURS + SIZES + AGES + MOODS + JOBS + DAYS + DRINKS]
    return {*nouns, *places, *verbs, *pairs, *CHINESE_NUMBERS, *OTHER_CHINESE}


def capital(sentence: str) -> str:
    """The sentence with its first letter capitalised."""
    return sentence[0].upper() + sentence[1:]


def pick_adjectives(rng: Random, noun: Noun) -> tuple[tuple[str, str], ...]:
    """Zero to two adjectives that fit the noun (only things, not animals, can be new or old)."""
    first = SIZES + AGES if noun in OBJECTS else SIZES
    chosen: tuple[tuple[str, str], ...] = ()
    if rng.random() < 0.3:
        chosen += (rng.choice(first),)
    if noun not in FOODS and rng.random() < 0.55:
        chosen += (rng.choice(COLOURS),)
    return chosen
