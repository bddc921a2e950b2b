"""Makes the goldens of chat templates: what transformers renders.

Needs transformers 5.17.0 and jinja2; and the templates, which are in llama-cpp-python's source archive under models/templates
(third_party/jinja fetches it):
  python make_goldens.py TEMPLATE_FOLDER      # writes renders.json beside itself

renders.json: template -> conversation of conversations.json -> [whole, prompt]: the 64-bit FNV-1a hash of the
rendered conversation and of it with add_generation_prompt, or "error" where the template raises or cannot do it. For the
templates with {% generation %}, generations.json has the whole text and the marked places (in characters).
The date that strftime_now shows is 2026-01-02.
"""
import datetime
import json
import pathlib
import sys

from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
# With {% generation %}: ChatML, and one with a loop around it and trimmed blocks.
MARKED = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
              "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
              "{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}",
    "lines": "{%- for m in messages %}\n    {%- if m.role == 'assistant' %}\n    {% generation %}\n"
             "A: {{ m.content | trim }}\n    {% endgeneration %}\n    {%- else %}\nQ: {{ m.content }}\n    {%- endif %}\n"
             "{%- endfor %}\n",
}


class Now(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 1, 2, 3, 4, 5)


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return "%016x" % value


def render(template, conversation, add_generation_prompt):
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[conversation["messages"]], tools=conversation.get("tools"), chat_template=template,
            add_generation_prompt=add_generation_prompt, **TOKENS)
    except Exception:  # what a template does to a conversation that it does not take
        return "error"
    return fnv1a(rendered[0].encode())


def main(folder):
    chat_template_utils.datetime = Now
    conversations = json.loads((HERE / "conversations.json").read_text())
    renders = {}
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        template = path.read_text()
        renders[path.name] = {name: [render(template, conversation, False), render(template, conversation, True)]
                              for name, conversation in conversations.items()}
    (HERE / "renders.json").write_text(json.dumps(renders, indent=1) + "\n")
    generations = {}
    for name, template in MARKED.items():
        entries = {}
        for conversation in ("several turns", "odd spacing", "scripts"):
            text, places = chat_template_utils.render_jinja_template(
                conversations=[conversations[conversation]["messages"]], chat_template=template,
                return_assistant_tokens_mask=True, **TOKENS)
            entries[conversation] = {"text": text[0], "generations": places[0]}
        generations[name] = {"template": template, "renders": entries}
    (HERE / "generations.json").write_text(json.dumps(generations, indent=1) + "\n")
    outcomes = [digest for entries in renders.values() for pair in entries.values() for digest in pair]
    print(len(renders), "templates,", len(outcomes), "renders,", outcomes.count("error"), "errors")


if __name__ == "__main__":
    main(sys.argv[1])
