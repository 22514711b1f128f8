"""What is taken out of a request before it is kept, in the languages that people write, and what stays."""

import json
import time
from typing import Any

import pytest

from inference_service.gateway.redaction import redacted, redacted_content

SIGNED = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("我的手机号是13812345678，邮箱是bob@corp.io，", "我的手机号是[phone]，邮箱是[email]，"),
        ("密钥是sk-abcdefghijklmnopqrstuvwx。账户DE89370400440532013000", "密钥是[key]。账户[account]"),
        ("卡号4111111111111111号，手机+8613812345678", "卡号[card]号，手机[phone]"),
        ("メールはbob@corp.ioです", "メールは[email]です"),
        ("アカウントDE89370400440532013000です", "アカウント[account]です"),
        (f"令牌{SIGNED}", "令牌[token]"),
        ("身份证11010519491231002X号", "身份证[identity number]号"),
        ("电话１３８１２３４５６７８", "电话[phone]"),
        ("密码：hunter3hunter3，然后登录。", "[password]，然后登录。"),
        ("密码是123456", "[password]"),
        ("パスワード：abcd1234", "[password]"),
        ("password是hunter2，谢谢", "[password]，谢谢"),
        ("Passwort: geheim123", "[password]"),
        ("Das Kennwort lautet geheim123", "Das [password]"),
        ("API-Schlüssel: abc12345", "[password]"),
        ("pass=topsecret1", "[password]"),
        ("DB_PASS=hunter22", "[password]"),
        ("PASS=hunter22", "[password]"),
        ("+33 1 23 45 67 89, +81 3-1234-5678, +49 170/1234567", "[phone], [phone], [phone]"),
        ("password: 'abc(def'", "[password]'"),
        ("userPassword = 'correct horse battery staple'", "[password]'"),
        ("Authorization: Token abcdef1234567890", "[password]"),
        ("Basic dXNlcjpwYXNzd29yZA==", "[credentials]"),
        ("müller@exämple.de, иван@пример.рф", "[email], [email]"),
        ("tel 0170 1234567", "tel [phone]"),
        ("Telefonnummer: 030 1234567", "Telefonnummer: [phone]"),
        ("01701234567, 010-12345678, 86-13812345678, 415-555-2671", "[phone], [phone], 86-[phone], [phone]"),
        ("ssn 078-05-1120", "ssn [identity number]"),
        ('{"password": "hunter2secret", "a": 1}', '{"[password]", "a": 1}'),
        ("aws_secret_access_key=abcdef0123", "[password]"),
        ("github_pat_11ABCDEFG0123456789abcdef", "[key]"),
        ("(555) 123-4567 or 138-0013-8000", "[phone] or [phone]"),
    ],
)
def test_whatever_stands_around_it(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "密码可以在设置里修改：先打开设置",
        "密码是8-16位",
        "密码SHA256加密，密码是SHA256加密的",
        "トークン数: 1234",
        "max_token: 5000, total tokens: 5000, prompt_tokens=1234, token_count: 12345",
        "eos_token: </s>, pad_token = '[PAD]', next_page_token=abcdefgh12",
        'the stream said {"token": "Hello", "logprob": -0.1}',
        "password = getpass.getpass(); token = os.environ['TOKEN']; self.password = password",
        "def f(token: str, password: string) -> None: ...",
        "f'token: {token}', password=${PASSWORD}, token: <your token>",
        "a password is required; the password is base64-encoded; secretary: Anna Schmidt",
        "authorization: required for all; authorization: Bearer {MEMBER}, api_key=PROVIDER_KEY) of an API key: send it",
        "PASS: test_foo_1 (0.02s)",
        "a basic understanding, skip_connection_layers, skeleton_screen_component, hf_transformers_model_name",
        "at 1763843483123 1763843483131 1763843483156 1763843483164, 20261122203123, 0.4111111111111111",
        "9223372036854775807 bytes of 17179869184, 14770033664 parameters",
        "phone: 2026-11-22 10:00",
        "phone: 11/22/2026, Handy 22/11/2026 10:00, phone 2024-2025 models, Telefon 22.11.2026",
        "COMPASS=north12",
        "I know C++11/14/17/20 well, C++98/03/11/14/17; x = +1 0 0 1 0 1 0 1 0; g++11 12 13 14",
        "2026-11-21T12:34:56.123456Z 550e8400-e29b-41d4-a716-446655440000 call_abcdefghijklmnop12345678",
        "chatcmpl-1234567890abcdef1234567890abcdef",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (
            {"password": "hunter2hunter2", "alice@corp.io": "k", "sk-abcdefghijklmnopqrstuvwx": 1},
            {"password": "[password]", "[email]": "k", "[key]": 1},
        ),
        ({"a@b.example": 1, "c@d.example": 2}, {"[email]": 1, "[email] 2": 2}),
        ({"headers": {"X-Api-Key": "abcdef123456"}}, {"headers": {"X-Api-Key": "[password]"}}),
        ({"accessToken": "abc", "Authorization": "x"}, {"accessToken": "[password]", "Authorization": "[password]"}),
        (
            {"密码": "geheim", "令牌": "xyzab", "Kennwort": "a"},
            {"密码": "[password]", "令牌": "[password]", "Kennwort": "[password]"},
        ),
        (
            {"token": "plainTokenValue99", "passwords": ["a", "b"]},
            {"token": "[password]", "passwords": ["[password]"] * 2},
        ),
        ({"password": 12345678, "userPass": "abc123"}, {"password": "[password]", "userPass": "[password]"}),
        ([{"name": "DB_PASSWORD", "value": "abcd"}], [{"name": "DB_PASSWORD", "value": "[password]"}]),
        ({"password": "$ABCdef", "api key": "self.x"}, {"password": "[password]", "api key": "[password]"}),
        ({"phone": 1701234567, "tel": "0170 1234567"}, {"phone": "[phone]", "tel": "[phone]"}),
        ({"rufnummer": "030 1234567", "Handynummer": 1701234567}, {"rufnummer": "[phone]", "Handynummer": "[phone]"}),
        ([13812345678, 8613812345678, 4111111111111111], ["[phone]", "[phone]", "[card]"]),
        (
            {"arguments": '{"password": "x y z", "n": 1.5, "to": "电话13812345678"}'},
            {"arguments": '{"password": "[password]", "n": 1.5, "to": "电话[phone]"}'},
        ),
        ({"arguments": '{"token":"plainTokenValue99"}'}, {"arguments": '{"token":"[password]"}'}),
        ({"arguments": '{"a":"bob@corp.io","a":"x"}'}, {"arguments": '{"a":"x"}'}),
    ],
)
def test_names_and_what_they_confess(content: Any, left: Any) -> None:
    assert redacted_content(content) == left


def test_numbers_of_other_things_stay() -> None:
    content = {
        "bestellnummer": 12345678,
        "rechnungsnummer": 20240012345,
        "steuernummer": "12/345/67890",
        "artikelNummer": "4006381333931",
        "seriennummer": "2024 0012345",
        "orderNumber": 12345678,
    }
    assert redacted_content(content) == content


@pytest.mark.parametrize(
    "content",
    [
        {"max_tokens": 4096, "token_count": 12345678, "usage": {"prompt_tokens": 1, "total_tokens": 13812345678}},
        {
            "tokens": ["a", "internationalization12345"],
            "stop_token_ids": [1, 2],
            "eos_token": "</s>",
            "tokenizer": "x1",
        },
        [
            {
                "token": "Hello1234",
                "logprob": -1.5,
                "top_logprobs": [{"token": "internationalization12345", "logprob": -2}],
            }
        ],
        [{"token": "Berlin", "label": "LOC"}],
        {"created": 1763843483, "at": 1763843483123, "x": [1763843483123, 1763843483131, 1763843483156, 1763843483164]},
        {"total_duration": 13812345678, "size": 17179869184, "weights": 14770033664, "id": 4111111111111111},
        {"number": 3.14159, "big": 9223372036854775807, "seed": 9007199254740991, "yes": True, "none": None},
        {"properties": {"password": {"type": "string", "description": "Of the user"}}, "required": ["password"]},
        {"secret": True, "password": None, "token": "", "pass": "ok", "hotel": "1234567 Street"},
        {"arguments": '{"pi":3.14159,  "token":"Hello"}'},
        {"phone": "iPhone 17"},
    ],
)
def test_other_fields_keep_what_they_say(content: Any) -> None:
    assert json.dumps(redacted_content(content)) == json.dumps(content)


@pytest.mark.parametrize(
    "text", ["eyJ-" * 60_000, "a@" * 100_000, "1" * 200_000, "://" + "a:" * 60_000, "secret-" * 30_000]
)
def test_nothing_takes_long_to_redact(text: str) -> None:
    begun = time.process_time()
    redacted(text)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "令eyJaaaaaaaa.bbbbbbbb.",
            "密码",
            "密码是",
            "密码：a ",
            "password是",
            "passwort is ",
            "api key ",
            "token:",
            "pass=",
        ),
        *('password:"', "token='", "authorization: bearer ", "a" * 40 + " ", "x_" * 20 + "pass ", "basic " + "a" * 12),
        *(
            "ü@",
            "a@a.",
            "a.",
            "@",
            "tel ",
            "tel 1",
            "phone(",
            "0170 ",
            "1 ",
            "1-",
            "+1 ",
            "+" + "1" * 25 + " ",
            "4111 ",
            "DE89 ",
            "078-05-",
        ),
        *("+" + "1" * 25 + " ", "sk-", "sk-a ", "a", "{", "[", '\\"', "-----BEGIN PRIVATE KEY"),
    ],
)
def test_a_megabyte_takes_no_longer_than_its_length(piece: str) -> None:
    text = (piece * (2**20 // len(piece) + 1))[: 2**20]
    begun = time.process_time()
    redacted(text)
    assert time.process_time() - begun < 2


def test_many_names_and_texts_within_texts_take_no_longer_either() -> None:
    nested = "[1]"
    for _ in range(16):
        nested = json.dumps([nested])
    names = {f"k{number}": [number, "ab"] for number in range(15_000)}
    begun = time.process_time()
    redacted_content({"nested": nested, "names": names, "alike": {f"a{n}@b.example": n for n in range(15_000)}})
    assert time.process_time() - begun < 2
