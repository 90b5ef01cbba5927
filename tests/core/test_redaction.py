from __future__ import annotations

import argparse
import json
from collections import UserDict
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failguard.core.redaction import REDACTED, cut, redact, redact_text
from failguard.core.secret_keys import is_secret_key

SECRET_KEYS = """
    token secret password passwd pwd key api_key access_key private_key apiKey APIKey OPENAI_API_KEY X-Api-Key api_keys
    aws_secret_access_key aws_access_key_id hf_token githubToken use_auth_token access_tokens token2 api_key_prod
    authorization Proxy-Authorization Cookie set-cookie credentials bearer client_secret db.password DB_PASSWORD
    userpassword wandb_key openai_key encryption_key storage_account_key basic_auth smtp_pass secret_value passphrase
    webhook_url db_pwd X-Amz-Signature session_token
""".split()  # noqa: SIM905

HARMLESS_KEYS = """
    keyboard monkey turkey hockey key_dim num_key_value_heads tokenizer tokenize max_tokens token_dim vocab_tokens
    tokens num_tokens tokens_per_second loss_per_token pad_token pad_token_id eos_token mask_token token_type_ids
    label_key image_key cache_key sort_key primary_key keys n_keys key_padding_mask attention.key.weight
    query_key_value PRNGKey rng_key password_length secret_dim author authors passes forward_pass pin_memory
    hidden_size learning_rate lr batch_size epochs
""".split()  # noqa: SIM905


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_secret_keys(key: str) -> None:
    assert is_secret_key(key)
    assert redact({key: "hunter2"}) == {key: REDACTED}


@pytest.mark.parametrize("key", HARMLESS_KEYS)
def test_harmless_keys(key: str) -> None:
    assert not is_secret_key(key)
    assert redact({key: "value", "n": 3}) == {key: "value", "n": 3}


# Each with the secret HUNTER2; whatever stands around it must stay.
LEAKS = [
    ("login(password='HUNTER2', user='bob')", "login(password='[redacted]', user='bob')"),
    ('login(password="HUNTER2")', 'login(password="[redacted]")'),
    ('login(password="a \\" HUNTER2 b", user=3)', 'login(password="[redacted]", user=3)'),
    ("password=HUNTER2", "password=[redacted]"),
    ("password = HUNTER2 and more", "password = [redacted] and more"),
    ("pwd=HUNTER2;user=bob", "pwd=[redacted];user=bob"),
    ("(password=HUNTER2, user=bob)", "(password=[redacted], user=bob)"),
    ("password=a,HUNTER2)b next", "password=[redacted] next"),
    ("token: HUNTER2\nstep: 3", "token: [redacted]\nstep: 3"),
    ("api key: HUNTER2", "api key: [redacted]"),
    ("the config key=HUNTER2 was refused", "the config key=[redacted] was refused"),
    ("x key: HUNTER2", "x key: [redacted]"),
    ('{"key": "HUNTER2", "lr": 0.1}', '{"key": "[redacted]", "lr": 0.1}'),
    ("{'secret': b'HUNTER2'}", "{'secret': b'[redacted]'}"),
    ('{\\"password\\": \\"HUNTER2\\", \\"a\\": 1}', '{\\"password\\": \\"[redacted]\\", \\"a\\": 1}'),
    ("credentials={'user': 'bob', 'pw': ['HUNTER2']} rest", "credentials=[redacted] rest"),
    ("train.py --api-key HUNTER2 --lr 0.1", "train.py --api-key [redacted] --lr 0.1"),
    ("train.py --password=HUNTER2", "train.py --password=[redacted]"),
    ("['--password', 'HUNTER2', '--lr']", "['--password', '[redacted]', '--lr']"),
    ("('password', 'HUNTER2')", "('password', '[redacted]')"),
    ("Authorization: Bearer HUNTER2", "Authorization: [redacted]"),
    ("curl -H 'Authorization: Basic HUNTER2' http://x", "curl -H 'Authorization: [redacted]' http://x"),
    ('{"Authorization": "Bearer HUNTER2"}', '{"Authorization": "[redacted]"}'),
    ("sent Bearer HUNTER2", "sent Bearer [redacted]"),
    ("Cookie: a=b; session=HUNTER2", "Cookie: [redacted]"),
    ('os.environ["API_KEY"] = "HUNTER2"', 'os.environ["API_KEY"] = "[redacted]"'),
    ('def f(token: str = "HUNTER2", n: int = 3):', 'def f(token: str = "[redacted]", n: int = 3):'),
    ('    password: str | None = "HUNTER2"', '    password: str | None = "[redacted]"'),
    ('if token == "HUNTER2":', 'if token == "[redacted]":'),
    ('self.api_key="HUNTER2"', 'self.api_key="[redacted]"'),
    ('token="HUNTER2 and no end\nnext line', 'token="[redacted]\nnext line'),
    ("password='''a\nHUNTER2''' rest", "password='''[redacted]''' rest"),
    ("http://bob:HUNTER2@host:5000/path", "http://[redacted]@host:5000/path"),
    ("https://HUNTER2@github.com/a/b@v1", "https://[redacted]@github.com/a/b@v1"),
    ("postgresql://bob:a/HUNTER2@host/db", "postgresql://[redacted]@host/db"),
    ("https://host/x?token=HUNTER2&page=3", "https://host/x?token=[redacted]&page=3"),
    ("https://x.blob/y?sv=1&sig=HUNTER2&se=2", "https://x.blob/y?sv=1&sig=[redacted]&se=2"),
    ("https://s3/x?X-Amz-Signature=HUNTER2", "https://s3/x?X-Amz-Signature=[redacted]"),
    ("export WANDB_API_KEY=HUNTER2", "export WANDB_API_KEY=[redacted]"),
    ("-----BEGIN RSA PRIVATE KEY-----\nHUNTER2\n-----END RSA PRIVATE KEY----- x", "[redacted] x"),
]


@pytest.mark.parametrize(("text", "expected"), LEAKS)
def test_text(text: str, expected: str) -> None:
    assert redact_text(text) == expected
    assert redact_text(expected) == expected


@pytest.mark.parametrize(
    "token",
    [
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
        "sk-abcdefghijklmnop1234567890",
        "sk-proj-abcDEF123_456-789xyz",
        "AKIAIOSFODNN7EXAMPLE",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
        "xoxb-123456789012-abcdefghijkl",
    ],
)
def test_shapes_of_tokens(token: str) -> None:
    assert redact_text(f"failed with {token}, again") == "failed with [redacted], again"
    assert redact({"note": [token]}) == {"note": [REDACTED]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "KeyError: 'loss'",
        "Missing key: 'layer.weight'",
        "max_tokens=100, num_key_value_heads: 8, tokenizer='bert'",
        "sorted(runs, key=lambda run: run.loss)",
        "def f(token: str, password: str | None = None):",
        "use_auth_token=True, token=None",
        "http://localhost:5000/page?mail=a@b",
        "sk-learn-pipeline-with-a-long-name",
        "the bearer token expired",
        'File "train.py", line 3, in <module>\n    loss.backward()\n    ^^^^^^^^^^^^^^^',
        "loss: 0.3, step=4",
    ],
)
def test_text_without_secrets_stays(text: str) -> None:
    assert redact_text(text) == text


plain_secret = st.text(alphabet="abcXYZ0123456789_-.!%^*+~", min_size=1, max_size=12).map(lambda s: f"q9{s}Zz8")


@settings(max_examples=150, deadline=None)
@given(
    secret=plain_secret,
    key=st.sampled_from(SECRET_KEYS),
    form=st.sampled_from(["{k}={s}", "{k}: {s}", "'{k}': '{s}'", '"{k}": "{s}"', "--{k} {s}", "f({k}='{s}', x=1)"]),
    around=st.sampled_from(["", "\n", "; ", " (", " config", " query", " the"]),
)
def test_no_secret_survives(secret: str, key: str, form: str, around: str) -> None:
    text = f"x{around} {form.format(k=key, s=secret)} y"
    assert secret not in redact_text(text)


@pytest.mark.parametrize(
    "unit",
    [
        "a", "a.", "a-", "://", "://a:b@", "password=", 'password="', "password='\n", "password=(", "key=a,", "key: ",
        "eyJ", "eyJaaaaaaaaaaa.", "sk-", "bearer ", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "--key ", "\\", '\\"',
        "key=[\n", "key='''", "token: str | ", " ", "\n",
    ],
)  # fmt: skip
def test_hostile_text_takes_linear_time(unit: str) -> None:
    size = 1_000_000
    text = (unit * (size // len(unit) + 1))[:size]  # quadratic time would be hours
    redact_text(text)
    redact_text(f"password={text}")
    assert len(redact({"x": text})["x"]) <= 10_000


def test_values_become_plain() -> None:
    class Color(Enum):
        RED = "red"

    @dataclass
    class Config:
        lr: float
        api_key: str

    def function() -> None: ...

    value: Any = {
        "a": (1, 2.5, True, None),
        "path": Path("x/y"),
        "enum": Color.RED,
        "config": Config(0.1, "hunter2"),
        "namespace": argparse.Namespace(token="hunter2", n=1),
        "scalar": np.float32(0.5),
        "array": np.zeros((3, 4)),
        "function": function,
        "class": Path,
        "bytes": b"hunter2",
        3: "three",
    }
    safe = redact(value)
    assert json.loads(json.dumps(safe)) == safe
    assert safe["a"] == [1, 2.5, True, None]
    assert safe["path"] == "x/y"
    assert safe["enum"] == "red"
    assert safe["config"] == {"lr": 0.1, "api_key": REDACTED}
    assert safe["namespace"] == {"token": REDACTED, "n": 1}
    assert safe["scalar"] == 0.5
    assert safe["array"] == "<ndarray of shape (3, 4), float64>"
    assert "function" in safe["function"]
    assert safe["class"] == "<pathlib.Path>"
    assert safe["bytes"] == "<bytes of 7>"
    assert safe["3"] == "three"


def test_any_mapping_and_nested_text() -> None:
    hparams = UserDict({"model": UserDict({"token": "hunter2", "w": 3}), "url": "http://u:hunter2@h/"})
    assert redact(hparams) == {"model": {"token": REDACTED, "w": 3}, "url": "http://[redacted]@h/"}


def test_secret_containers_headers_and_arguments() -> None:
    assert redact({"credentials": {"a": "hunter2"}, "api_keys": ["hunter2"]}) == {
        "credentials": REDACTED,
        "api_keys": REDACTED,
    }
    assert redact([("Authorization", "hunter2"), ("Accept", "x")]) == [["Authorization", REDACTED], ["Accept", "x"]]
    assert redact(["--api-key", "hunter2", "--lr", "0.1"]) == ["--api-key", REDACTED, "--lr", "0.1"]
    assert redact({"password": 12345, "token": None, "use_auth_token": True, "secret": ""}) == {
        "password": REDACTED,
        "token": None,
        "use_auth_token": True,
        "secret": "",
    }


def test_the_value_itself_is_not_changed() -> None:
    inner = {"token": "hunter2"}
    redact({"a": inner, "b": [inner]})
    assert inner == {"token": "hunter2"}


def test_cycles_and_deep_and_huge_values_end() -> None:
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = cycle
    assert redact(cycle) == {"a": 1, "self": "<cycle>"}
    deep: Any = "end"
    for _ in range(500):
        deep = [deep]
    assert "cut" in json.dumps(redact(deep))
    assert redact(list(range(5000)))[-1] == "... [cut, 5,000 items]"
    assert redact({str(i): i for i in range(5000)})["..."] == "[cut, 5,000 entries]"
    wide: Any = [1, 2]
    for _ in range(40):  # the same list twice at every level: 2**40 values
        wide = [wide, wide, 3]
    assert len(json.dumps(redact(wide))) < 2_000_000
    text = redact("x" * 1_000_000)
    assert len(text) == 10_000
    assert text.endswith("[cut, 1,000,000 characters]")


def test_a_cut_never_shows_half_a_secret() -> None:
    text = "x" * 9_990 + " password=" + "hunter2" * 2_000
    assert "hunter" not in redact(text)


def test_hostile_objects_are_survived() -> None:
    class Broken(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            raise RuntimeError("no")

    class Odd:
        @property
        def shape(self) -> Any:
            raise RuntimeError("no")

    safe = redact({"broken": Broken(a=1), "odd": Odd()})
    assert "Broken" in safe["broken"]
    assert "Odd" in safe["odd"]


def test_cut_marks_what_is_missing() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("a" * 100, 50).endswith("... [cut, 100 characters]")
    assert len(cut("a" * 100, 50)) == 50
