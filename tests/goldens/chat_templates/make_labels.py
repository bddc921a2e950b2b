"""Makes labels.json: what a conversation's tokens are and which are learnt, by the peers.

Needs torch 2.11.0, transformers 5.17.0, trl 1.16.0, datasets 5.2.0 and the folder of SmolLM2's tokenizer
(third_party/smollm2 makes it):
  python make_labels.py TOKENIZER_FOLDER            # writes labels.json beside itself, as it is committed
Many more, for chat_labels_test with LATHE_LABELS_GOLDEN=many.json:
  python make_labels.py TOKENIZER_FOLDER --count 300 --chats dataset.json --num_chats 700 --output many.json
where dataset.json is chitchat-dataset's (PyPI, 0.9.0).

assistant: what TRL's SFTTrainer makes of the conversations with assistant_only_loss under the template "marked", which has
{% generation %}, or that of --template. seed: ids and labels as the seed chapter's preprocess makes them, with -100 in the
place of its pad and before its padding. Runs of equal kind are kept short: learnt is a list of [begin, end).

completions: rows of prompt and completion, as SFTTrainer labels them by itself; "begun" by a tokenizer that puts <|im_start|>
before a text, as others do their beginning of text. "composed": a conversation with assistant_only_loss, by a tokenizer that
normalizes to NFC, as Qwen's does.
"""
import argparse
import itertools
import json
import pathlib
import random
import tempfile

import datasets
import tokenizers
import transformers
import trl

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


def real(path, count):
    """Conversations of two people in turn, the first as the user."""
    chats = sorted(json.loads(pathlib.Path(path).read_text()).items())
    turns_of = (["\n".join(message["text"] for message in turn) for turn in chat["messages"]] for _, chat in chats)
    cut = (turns[:min(len(turns) // 2 * 2, 12)] for turns in turns_of)
    roles = ("user", "assistant")
    all_of = ([{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)] for turns in cut if turns and all(turns))
    yield from itertools.islice(all_of, count)


def labelled(tokenizer, rows, template, assistant_only_loss):
    tokenizer.chat_template = template
    tiny = transformers.LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                    num_attention_heads=1, num_key_value_heads=1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.SFTConfig(output_dir=folder, assistant_only_loss=assistant_only_loss, max_length=None, report_to=[],
                                  use_cpu=True, bf16=False)
        trainer = trl.SFTTrainer(model=transformers.LlamaForCausalLM(tiny), args=arguments, processing_class=tokenizer,
                                 train_dataset=datasets.Dataset.from_list(rows))
        for row in trainer.train_dataset:
            assert all(label in (IGNORED, id) for id, label in zip(row["input_ids"], row["labels"], strict=True))
            yield {"ids": row["input_ids"], "learnt": spans([label != IGNORED for label in row["labels"]])}


def completions(tokenizer, template):
    plain = [{"prompt": p, "completion": c} for p, c in [("2 + 2 =", " 4"), ("", "all of it"), ("Hel", "lo there"),
                                                         ("Ends: ", "yes<|im_end|>"), ("床前", "明月光 🙂\n")]]
    talks = [{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": " q"}],
              "completion": [{"role": "assistant", "content": "a\n"}]},
             {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
              "completion": [{"role": "assistant", "content": "d"}]}]
    begun = transformers.AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    begun.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    found = []
    composed = transformers.AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    composed.backend_tokenizer.normalizer = tokenizers.normalizers.NFC()
    talks_apart = [{"messages": [{"role": "user", "content": "cafe\u0301"},
                                 {"role": "assistant", "content": "\u1100\u1161\u11a8 cafe\u0301\u0323, A\u030a"},
                                 {"role": "user", "content": "\u0301e"}, {"role": "assistant", "content": "\u212b x\u0308\u0301"}]}]
    for name, rows, by in (("plain", plain, tokenizer), ("begun", plain, begun), ("talk", talks, tokenizer)):
        for row, sample in zip(rows, labelled(by, rows, template, False), strict=True):
            found.append({"kind": name, "row": row, **sample})
    for row, sample in zip(talks_apart, labelled(composed, talks_apart, template, True), strict=True):
        found.append({"kind": "composed", "row": row, **sample})
    return found


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


def main(args):
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.tokenizer)
    template = pathlib.Path(args.template).read_text() if args.template else MARKED
    written = json.loads((HERE / "conversations.json").read_text())
    conversations = [c["messages"] for c in written.values() if "tools" not in c and c["messages"][-1]["role"] == "assistant"]
    conversations += made_up(args.count)
    if args.chats:
        conversations += real(args.chats, args.num_chats)
    assistant = labelled(tokenizer, [{"messages": c} for c in conversations], template, True)
    golden = {"marked": template, "conversations": [
        {"messages": c, "assistant": a, "seed": seed(tokenizer, c)} for c, a in zip(conversations, assistant, strict=True)]}
    golden["completions"] = completions(tokenizer, template)
    pathlib.Path(args.output).write_text(json.dumps(golden) + "\n")
    print(len(conversations), "conversations")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizer")
    parser.add_argument("--count", type=int, default=30, help="conversations made up at random")
    parser.add_argument("--chats", help="chitchat-dataset's dataset.json")
    parser.add_argument("--num_chats", type=int, default=0)
    parser.add_argument("--template", help="a file, in the place of MARKED")
    parser.add_argument("--output", default=HERE / "labels.json")
    main(parser.parse_args())
