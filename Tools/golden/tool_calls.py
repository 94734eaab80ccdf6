"""Conversations with calls of tools, as transformers' chat templates write them, and which parts a model learns.

    Tools/golden/tool_calls.py

Writes Tests/ParityTests/Golden/tool-calls/expected.json: templates in the styles of checkpoints that call tools, records as lines of JSON, and of each pair the text of
`apply_chat_template` (null where it refuses) and its pieces: [text, learned]. What an assistant says is learned, from behind the generation prompt to the end of
what the template writes of that message.
"""

import json

from transformers.utils import chat_template_utils

from golden import GOLDEN, write_json, write_manifest

FOLDER = GOLDEN / "tool-calls"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TEMPLATES = {
    # Tools in the system's turn, calls as tagged JSON, what tools answer as the user's, several in one turn.
    "tagged": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are helpful.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    # Tools in front of the first thing a user says, one call at a time, as JSON; what tools answer under a header of its own.
    "headers": """{{- bos_token }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {{- (message.name + ': ') if message.name else '' }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- elif loop.first and message.role == 'user' and tools is not none %}
        {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' }}
        {%- for t in tools %}
            {{- t | tojson(indent=4) }}
            {{- "\\n\\n" }}
        {%- endfor %}
        {{- message.content | trim + "<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
}


def call(number, name, **arguments):
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather", "description": "The weather of a place, in \u00b0C.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}, "required": ["place"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
RECORDS = [
    {
        "tools": [WEATHER, CLOCK],
        "messages": [
            {"role": "user", "content": "How warm is it in Z\u00fcrich?"},
            {"role": "assistant", "content": None, "tool_calls": [call(1, "weather", place="Z\u00fcrich", days=1, a={"z": [1, 2.5, True, None]})]},
            {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": '{"warmth": 21}'},
            {"role": "assistant", "content": "21 \u00b0C."},
        ],
    },
    {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "The time, and the weather in Rome?"},
            {"role": "assistant", "content": "Looking.", "tool_calls": [call(1, "clock"), call(2, "weather", place="Rome")]},
            {"role": "tool", "tool_call_id": "call_1", "name": "clock", "content": "12:00"},
            {"role": "tool", "tool_call_id": "call_2", "name": "weather", "content": "sun"},
            {"role": "assistant", "content": "Noon, and sun."},
            {"role": "user", "content": "Thanks"},
            {"role": "assistant", "content": "Welcome"},
        ],
        "tools": [WEATHER],
        "user": "ada",
    },
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call(1, "clock")]}]},
]


def written(template, messages, tools, prompt=False):
    texts, _ = chat_template_utils.render_jinja_template(
        [messages], chat_template=template, tools=tools, add_generation_prompt=prompt, **TOKENS)
    return texts[0]


def pieces(template, record):
    messages, tools = record["messages"], record.get("tools")
    whole = written(template, messages, tools)
    result, end = [], 0
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, after = written(template, messages[:number], tools, True), written(template, messages[: number + 1], tools)
        assert whole.startswith(before) and whole.startswith(after)
        result += [[whole[end : len(before)], False], [whole[len(before) : len(after)], True]]
        end = len(after)
    return whole, [piece for piece in result + [[whole[end:], False]] if piece[0]]


def main():
    cases = []
    for name, template in TEMPLATES.items():
        for number, record in enumerate(RECORDS):
            try:
                text, parts = pieces(template, record)
            except Exception:
                text, parts = None, []
            cases.append({"template": name, "record": number, "text": text, "pieces": parts})
    write_json(FOLDER / "expected.json", {
        "tokens": TOKENS, "templates": TEMPLATES, "records": [json.dumps(record, ensure_ascii=False) for record in RECORDS], "cases": cases,
    })
    write_manifest(FOLDER, "tool_calls.py", 0)
    print([(case["template"], case["record"], case["text"] is not None) for case in cases])


if __name__ == "__main__":
    main()
