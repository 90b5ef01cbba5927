"""Which keys name secrets.

A value is secret when its key says so. A key is split into words (``apiKey``, ``API_KEY`` and ``api-key`` are all
``api key``), then:

1. A word such as *password*, *secret*, *credentials*, *authorization*, *cookie* anywhere in it makes it secret; so does
   a pair such as *api key* or *access token*.
2. *key*, *token* and *auth* make it secret only as the last word (``key``, ``openai_key``; not ``key_dim``,
   ``token_embedding``), and not after a word that names something harmless (``pad_token``, ``label_key``).
3. A measure at the end (``password_length``) or a count at the start (``max_tokens``) makes it harmless. ``None`` and
   booleans are shown under any key.

Words are compared whole, so ``monkey``, ``keyboard`` and ``tokenizer`` are harmless. What no rule knows is redacted:
a harmless value lost costs less than a secret shown.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

__all__ = ["is_secret_key", "words"]


def words(text: str) -> frozenset[str]:
    """A set of words, written as text."""
    return frozenset(text.split())


SECRET_WORDS = words(
    "password passwords passwd pwd passphrase passcode secret secrets credential credentials creds authorization"
    " cookie cookies bearer webhook apikey apikeys secretkey accesskey privatekey apitoken authtoken accesstoken"
    " refreshtoken sessiontoken bottoken hftoken ghtoken githubtoken gitlabtoken wandbtoken"
)
SECRET_ENDINGS = ("password", "passwd", "passphrase", "secret", "apikey", "secretkey", "accesskey", "privatekey")
LAST_WORDS = words("key token auth")
KEY_KINDS = words("api access secret private signing encryption ssh gpg rsa auth account storage subscription master")
TOKEN_KINDS = words("api access auth refresh bearer session secret bot csrf personal hf github gitlab oauth jwt")
PASS_KINDS = words("db database user admin root smtp ftp mail email mysql postgres redis login account")
MEASURES = words("length len dim dims size sizes count counts strength embedding embeddings loss accuracy acc rate")
COUNTS = words("num n max min total avg mean")
TAILS = words("str string prod dev staging")
HARMLESS_BEFORE = {
    "token": words(
        "pad eos bos unk mask masked cls sep sos eot class special image img audio video text start end stop begin"
        " next previous prev first last per by prefix suffix register patch query word sub new blank dummy null"
        " distillation input output target label current"
    ),
    "key": words(
        "primary foreign sort cache partition dict dictionary batch label labels target targets image img input inputs"
        " output outputs data feature features rng prng random group index metric monitor state row column col text"
        " audio video mask loss logit logits pred prediction x y query value attention attn cross config cfg item map"
        " registry lookup join shuffle dropout init params sample id time timestamp class weight weights pixel bbox"
        " caption score composite unique candidate shard routing reference by per no"
    ),
    "auth": frozenset[str](),
}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@lru_cache(maxsize=4096)
def is_secret_key(key: str) -> bool:
    """Whether the value under this key is to be hidden. The rules are at the top of this module."""
    parts = [w.lower() for w in _WORD.findall(key[-200:])]
    while len(parts) > 1 and (parts[-1].isdigit() or parts[-1] in TAILS):
        parts.pop()
    if not parts or parts[-1] in MEASURES or parts[0] in COUNTS:
        return False
    if any(w in SECRET_WORDS or w.endswith(SECRET_ENDINGS) for w in parts):
        return True
    pairs = list(pairwise(parts))
    for kind, what in pairs:
        if (what in ("key", "keys") and kind in KEY_KINDS) or (what in ("token", "tokens") and kind in TOKEN_KINDS):
            return True
        if (kind, what) == ("amz", "signature") or (what == "pass" and kind in PASS_KINDS):
            return True
    last = parts[-1]
    return last in LAST_WORDS and not (pairs and pairs[-1][0] in HARMLESS_BEFORE[last])
