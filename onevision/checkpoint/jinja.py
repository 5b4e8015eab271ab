"""A chat format of ours -> the chat template (Jinja) that transformers expects of a checkpoint."""

import json

from onevision.config import Template
from onevision.inputs.templates import TEMPLATES, Turn

# Media where they stand in the content, a line break after them. Newlines are expressions, because
# Jinja drops a bare one after a tag.
WORDS = (
    "{%- macro words(message) -%}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}{{ '<' + part['type'] + '>' + ('' if loop.last else '\\n') }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{%- endmacro -%}"
)


def jinja(template: Template) -> str | None:
    """Return a format as Jinja; None for "plain", which is no chat."""
    chat = TEMPLATES.get(template)
    if chat is None:
        return None
    words = "words(message) | trim" if chat.strips else "words(message)"

    def spoken(turn: Turn, before: str = "") -> str:
        head, tail = json.dumps(turn.head), json.dumps(turn.tail)
        lead = f" + {json.dumps(turn.lead)}" if turn.lead else ""
        return f"{head}{before}{lead} + ({words}) + {tail}"

    line = chat.system_line
    default = f"{chat.system.head}{line}{chat.system.tail}" if line else ""
    inside, outside = (" + said.system", "") if chat.system_inside else ("", "said.system + ")
    return (
        f"{WORDS}"
        f"{{% set said = namespace(system={json.dumps(default)}, between='') %}}"
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}"
        f"{{% set said.system = {spoken(chat.system)} %}}"
        "{% elif message['role'] == 'user' %}"
        f"{{{{ said.between + {outside}{spoken(chat.user, inside)} }}}}"
        f"{{% set said.system = '' %}}{{% set said.between = {json.dumps(chat.between)} %}}"
        "{% else %}"
        f"{{{{ {spoken(chat.assistant)} }}}}"
        "{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {json.dumps(chat.assistant.head)} }}}}{{% endif %}}"
    )
