"""Makes labels.json: what a conversation's tokens are and which are learnt, by the peers.

Needs transformers 5.17.0, jinja2 and the folder of SmolLM2's tokenizer (third_party/smollm2 makes it):
  python make_labels.py TOKENIZER_FOLDER [COUNT]    # COUNT conversations made up at random; 30 are committed

assistant: ids and mask of apply_chat_template under the template "marked", which has {% generation %} (TRL's
assistant_only_loss takes its labels from that mask). seed: ids and labels as the seed chapter's preprocess makes them, with
-100 in the place of its pad and before its padding. Runs of equal kind are kept short: learnt is a list of [begin, end).
"""
import json
import pathlib
import random
import sys

from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MARKED = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
          "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}"
          "{% endif %}{{ '\n' }}{% endfor %}")
IGNORED = -100
WORDS = ["snow", " rain", "  two spaces", "\n", "\n\n", "1234567", "naïve", "床前明月光", "🙂", "👩‍👩‍👧", "<|im_end|>", "don't", "İstanbul",
         "\t", "?!", "...", " A", "a", "```c\nint x;\n```", "é", "https://example.org/a?b=c", "", "ﬁ", "\u00a0", "\r\n"]


def made_up(count):
    rng = random.Random(7)
    text = lambda: "".join(rng.choice(WORDS) + rng.choice(["", " ", "", "\n"]) for _ in range(rng.randrange(12)))
    for _ in range(count):
        messages = [{"role": "system", "content": text()}] if rng.random() < 0.4 else []
        for _ in range(rng.randrange(1, 4)):
            messages += [{"role": "user", "content": text()}, {"role": "assistant", "content": text() or "yes"}]
        yield messages


def spans(flags):
    found, begin = [], None
    for i, flag in enumerate([*flags, False]):
        if flag and begin is None:
            begin = i
        if not flag and begin is not None:
            found.append([begin, i])
            begin = None
    return found


def assistant(tokenizer, messages):
    encoded = tokenizer.apply_chat_template(messages, chat_template=MARKED, return_dict=True, tokenize=True,
                                            return_assistant_tokens_mask=True)
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    return {"ids": ids, "learnt": spans(mask)}


def seed(tokenizer, messages):
    """A turn is <|im_start|>, role, newline, text, <|im_end|>, newline, each piece tokenised by itself."""
    pieces = lambda text: tokenizer(text).input_ids
    start, end, newline = pieces("<|im_start|>"), pieces("<|im_end|>"), pieces("\n")
    source = messages if messages[0]["role"] == "user" else messages[1:]
    turns = [(start + pieces("system"), "You are a helpful assistant.", False)]
    for message in source:
        role = {"user": "human", "assistant": "assistant"}[message["role"]]
        turns.append((pieces("<|im_start|>" + role), message["content"], role == "assistant"))
    ids, labels = [], []
    for role, text, is_learnt in turns:
        turn = role + newline + pieces(text) + end + newline
        inside = turn[len(role) + 1:-2] if is_learnt else [IGNORED] * (len(turn) - 2 - len(role) - 1)
        labels += start + [IGNORED] * len(role) + inside + end + newline
        ids += turn
    assert len(ids) == len(labels)
    return {"ids": ids, "learnt": spans([label != IGNORED for label in labels])}


def main(folder, count=30):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    written = json.loads((HERE / "conversations.json").read_text())
    conversations = [c["messages"] for c in written.values() if "tools" not in c and c["messages"][-1]["role"] == "assistant"]
    conversations += made_up(int(count))
    golden = {"marked": MARKED, "conversations": [
        {"messages": c, "assistant": assistant(tokenizer, c), "seed": seed(tokenizer, c)} for c in conversations]}
    (HERE / "labels.json").write_text(json.dumps(golden) + "\n")
    print(len(conversations), "conversations")


if __name__ == "__main__":
    main(*sys.argv[1:])
