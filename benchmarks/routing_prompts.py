"""Prompts and models with known truth for benchmarks/routing.py, and tables of outcomes that were recorded."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FRAMES = {
    "en": {
        0: ("What is meant by {}?", "Quick question: {}?", "Tell me about {} in one line.", "{} - yes or no?"),
        1: (
            "Explain {} with an example and name two things people get wrong.",
            "I am dealing with {}; what should I do first, and what next?",
            "Give me a short overview of {} for a newcomer, with the main steps.",
        ),
        2: (
            "Work through {} in depth: weigh the competing positions, state every assumption, show where each"
            " one fails,"
            " and end with a justified recommendation that also covers the edge cases.",
            "Prepare a complete treatment of {}, with a plan, the risks in order of weight, alternatives that were"
            " rejected and why, and a check of the result from first principles.",
        ),
    },
    "zh": {
        0: ("什么是{}？", "请问{}？", "用一句话介绍{}。"),
        1: ("请举例说明{}，并指出两个常见误区。", "我遇到了{}，先做什么，再做什么？", "给新手简要介绍{}的主要步骤。"),
        2: (
            "请深入分析{}：权衡各种立场，写明所有假设，指出每种方案在哪里失效，最后给出涵盖特殊情况的完整结论和理由。",
            "请完整论述{}，包括方案、按轻重排序的风险、被否决的备选及原因，并从基本原理出发核对结果。",
        ),
    },
    "de": {
        0: ("Was versteht man unter {}?", "Kurze Frage: {}?", "Sag in einem Satz etwas über {}."),
        1: (
            "Erkläre {} mit einem Beispiel und nenne zwei häufige Irrtümer.",
            "Ich habe es mit {} zu tun; was mache ich zuerst und was danach?",
            "Gib Anfängern einen kurzen Überblick über {} mit den wichtigsten Schritten.",
        ),
        2: (
            "Arbeite {} gründlich durch: wäge die Positionen ab, nenne jede Annahme, zeige, wo sie versagt,"
            " und schließe"
            " mit einer begründeten Empfehlung, die auch Sonderfälle abdeckt.",
            "Behandle {} vollständig, mit Plan, Risiken nach Gewicht, verworfenen Wegen samt Grund und einer"
            " Probe des"
            " Ergebnisses von Grund auf.",
        ),
    },
}

SUBJECTS = {
    "code": {
        "en": "a race condition in asyncio;memory leaks in a Go service;the borrow checker in Rust"
        ";SQL window functions"
        ";a failing pytest fixture;binary search in Java;git rebase conflicts;webpack bundle size",
        "zh": "Go 协程泄漏;Rust 的所有权;SQL 窗口函数;Python 装饰器;二分查找的边界;Git 合并冲突"
        ";接口幂等性;前端打包体积",
        "de": "einen Speicherüberlauf in C;Rust und geliehene Werte;SQL-Fensterfunktionen;Python-Dekoratoren"
        ";binäre Suche in Java;Konflikte beim Git-Rebase;eine langsame REST-Schnittstelle",
    },
    "math": {
        "en": "the chain rule;Bayes' theorem for two dice;a geometric series;the inverse of a 3x3 matrix"
        ";counting surjections;the roots of a cubic polynomial;modular inverses",
        "zh": "链式法则;两个骰子的贝叶斯定理;等比数列求和;三阶矩阵的逆;排列组合计数;三次方程的根;同余方程",
        "de": "die Kettenregel;den Satz von Bayes mit zwei Würfeln;geometrische Reihen;die Inverse einer Matrix"
        ";Kombinationen ohne Zurücklegen;Nullstellen eines Polynoms",
    },
    "law": {
        "en": "an eviction notice;breach of a supply contract;GDPR consent;a non-compete clause"
        ";copyright in photographs"
        ";liability for defective goods;a will without witnesses",
        "zh": "房东解除租赁合同;供货合同违约;个人信息同意;竞业限制条款;照片的著作权;产品责任赔偿;没有见证人的遗嘱",
        "de": "eine fristlose Kündigung;Vertragsbruch eines Lieferanten;Einwilligung nach DSGVO;ein Wettbewerbsverbot"
        ";Urheberrecht an Fotos;Haftung für mangelhafte Ware;ein Testament ohne Zeugen",
    },
    "medicine": {
        "en": "a persistent cough;high blood pressure in pregnancy;antibiotic resistance;migraine with aura"
        ";the dose of paracetamol for children;symptoms of diabetes;a torn ligament",
        "zh": "持续咳嗽;妊娠高血压;抗生素耐药;偏头痛;儿童退烧药剂量;糖尿病症状;韧带损伤的治疗",
        "de": "anhaltender Husten;Bluthochdruck in der Schwangerschaft;Resistenz gegen Antibiotika;Migräne mit Aura"
        ";die Dosis von Paracetamol für Kinder;Anzeichen von Diabetes",
    },
    "finance": {
        "en": "a fixed-rate mortgage;index funds for retirement;bond duration;tax on dividends;cash flow forecasting"
        ";currency risk of an importer;credit card debt",
        "zh": "固定利率房贷;指数基金养老投资;债券久期;股息税;现金流预测;进口商的汇率风险;信用卡债务",
        "de": "eine Hypothek mit festen Zinsen;Indexfonds für die Rente;die Duration von Anleihen"
        ";Steuern auf Dividenden"
        ";Währungsrisiken eines Importeurs;Schulden auf der Kreditkarte",
    },
    "science": {
        "en": "black holes evaporating;photosynthesis at low light;plate tectonics;the structure of DNA"
        ";superconductivity"
        ";catalysts in chemistry;why the ocean is salty",
        "zh": "黑洞蒸发;弱光下的光合作用;板块运动;DNA 的结构;超导现象;化学催化剂;海水为什么是咸的",
        "de": "schwarze Löcher;Photosynthese bei wenig Licht;Plattentektonik;der Aufbau der DNS;Supraleitung"
        ";Katalysatoren in der Chemie",
    },
    "translation": {
        "en": "translating idioms into German;the French word dépaysement;translating a contract into Spanish"
        ";English subtitles for a Korean film;a literal translation of a proverb",
        "zh": "把成语翻译成英文;把合同译成法语;日语敬语的翻译;英文字幕翻译;直译和意译",
        "de": "Redewendungen ins Englische zu übersetzen;das französische Wort dépaysement"
        ";einen Vertrag ins Spanische zu"
        " übersetzen;englische Untertitel;wörtliche Übersetzung von Sprichwörtern",
    },
    "writing": {
        "en": "writing a farewell speech;the tone of a cover letter;a poem about autumn;a headline for a charity blog"
        ";dialogue in a short story;rewriting a dull paragraph",
        "zh": "写一篇告别演讲稿;求职信的语气;一首关于秋天的诗;公益文章的标题;小说里的对白;润色一段文字",
        "de": "eine Abschiedsrede;der Ton eines Bewerbungsschreibens;ein Gedicht über den Herbst;eine Überschrift für"
        " einen Blog;Dialoge in einer Kurzgeschichte",
    },
    "support": {
        "en": "a refund for a cancelled order;my parcel that never arrived;resetting my account password"
        ";a double charge on my invoice;the warranty of a broken kettle",
        "zh": "取消订单后的退款;一直没到的快递;重置账号密码;发票重复扣款;坏掉的水壶的保修",
        "de": "eine Erstattung für eine stornierte Bestellung;mein Paket, das nie ankam"
        ";das Zurücksetzen meines Passworts"
        ";eine doppelte Abbuchung;die Garantie für einen kaputten Wasserkocher",
    },
    "general": {
        "en": "a weekend trip to Porto;birthday gifts for a teenager;keeping a cat happy indoors"
        ";good films about chess"
        ";a dinner party for eight;learning to swim late",
        "zh": "周末去苏州旅游;送给孩子的生日礼物;养猫的日常;关于象棋的电影;八个人的晚饭;成年后学游泳",
        "de": "ein Wochenende in Porto;Geschenke für Jugendliche;Katzen in der Wohnung;gute Filme über Schach"
        ";ein Abendessen für acht Gäste;spät schwimmen zu lernen",
    },
}

LANGUAGE_SHARES = {"en": 0.5, "zh": 0.3, "de": 0.2}
COMPLEXITY_SHARES = (0.45, 0.35, 0.2)
MODELS = {"small": 0.0002, "coder": 0.0008, "eastern": 0.001, "large": 0.004}
"""What a thousand tokens of each cost."""


@dataclass(frozen=True)
class Case:
    """A prompt, the quality that each model has on average for it, and what was seen of each once."""

    prompt: str
    truth: dict[str, float]
    quality: dict[str, float]
    cost: dict[str, float]
    latency: dict[str, float]


def simulated(count: int, seed: int, graded: bool = False) -> list[Case]:
    """`graded`: outcomes are ratings in steps; else each is right or wrong, as in a benchmark."""
    random = np.random.default_rng(seed)
    worth = _worth(random)
    return [_case(random, worth, graded) for _ in range(count)]


def _worth(random: np.random.Generator) -> Callable[[str, str, str, int, str], float]:
    """Strengths as they are found: by domain, by language, by how hard it is, and a rest that nothing explains."""
    level = {"small": 0.62, "coder": 0.66, "eastern": 0.68, "large": 0.8}
    slope = {"small": 0.22, "coder": 0.14, "eastern": 0.14, "large": 0.07}
    sides = {(model, side): random.normal(0, 0.06) for model in MODELS for side in (*SUBJECTS, *LANGUAGE_SHARES)}
    for model, side, more in (
        ("coder", "code", 0.28),
        ("coder", "math", 0.2),
        ("coder", "zh", -0.1),
        ("eastern", "zh", 0.22),
        ("eastern", "de", -0.12),
        ("large", "law", 0.06),
        ("large", "medicine", 0.06),
        ("large", "support", -0.15),
        ("small", "support", 0.22),
        ("small", "translation", 0.1),
    ):
        sides[model, side] += more
    special = {
        (model, language, domain): random.normal(0, 0.06)
        for model in MODELS
        for language in LANGUAGE_SHARES
        for domain in SUBJECTS
    }
    topics: dict[tuple[str, str], float] = {}

    def worth(model: str, language: str, domain: str, complexity: int, subject: str) -> float:
        own = topics.setdefault((model, subject), random.normal(0, 0.06))
        good = level[model] - slope[model] * complexity + sides[model, domain] + sides[model, language]
        return float(np.clip(good + special[model, language, domain] + own, 0.03, 0.97))

    return worth


def _case(random: np.random.Generator, worth: Callable[[str, str, str, int, str], float], graded: bool) -> Case:
    language = str(random.choice(list(LANGUAGE_SHARES), p=list(LANGUAGE_SHARES.values())))
    domain = str(random.choice(list(SUBJECTS)))
    complexity = int(random.choice(3, p=COMPLEXITY_SHARES))
    subject = str(random.choice(SUBJECTS[domain][language].split(";")))
    prompt = str(random.choice(FRAMES[language][complexity])).format(subject)
    truth = {model: worth(model, language, domain, complexity, subject) for model in MODELS}
    thousands = {model: float(random.lognormal(-0.5 + 0.5 * complexity, 0.5)) for model in MODELS}
    return Case(
        prompt,
        truth,
        {model: _seen(random, good, graded) for model, good in truth.items()},
        {model: MODELS[model] * thousands[model] for model in MODELS},
        {model: 0.5 + thousands[model] for model in MODELS},
    )


def _seen(random: np.random.Generator, good: float, graded: bool) -> float:
    if not graded:
        return float(random.random() < good)
    return float(np.clip(round((good + random.normal(0, 0.2)) * 4) / 4, 0, 1))


def recorded(path: Path) -> Iterator[Case]:
    """JSONL, a prompt a line: {"prompt": ..., "outcomes": {model: {"quality", "cost"?, "latency"?}}}."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            outcomes = row["outcomes"]
            quality = {model: float(seen["quality"]) for model, seen in outcomes.items()}
            yield Case(
                row["prompt"],
                quality,
                quality,
                {model: float(seen.get("cost") or 0.0) for model, seen in outcomes.items()},
                {model: float(seen.get("latency") or 0.0) for model, seen in outcomes.items()},
            )
