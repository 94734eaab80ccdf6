"""Makes the golden file of chat templates: conversations rendered by transformers.

    python Tools/golden/tokenizers/chat.py

The templates are written here, in the styles that checkpoints use, and small ones for each part of the language. Writes
Tests/PeatTokenizersTests/Golden/chat.json: of each template and conversation the text, or null where it is an error.
"""

import datetime
import json
import pathlib

import jinja2
import transformers
from transformers.utils import chat_template_utils

GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "Tests" / "PeatTokenizersTests" / "Golden"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
NOW = datetime.datetime(2024, 7, 6, 15, 4, 5)

STYLES = {
    "chatml": """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}""",
    "chatml-default-system": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}""",
    "inst": """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "headers": """{%- set loop_messages = messages %}
{%- for message in loop_messages %}
    {%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}
    {%- if loop.index0 == 0 %}
        {%- set content = bos_token + content %}
    {%- endif %}
    {{- content }}
{%- endfor %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' if add_generation_prompt }}
""",
    "headers-date": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The first system message goes to the top. #}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
<|start_header_id|>system<|end_header_id|>

Today Date: {{ date_string }}

{% if tools is not none %}
{%- for t in tools %}
{{- t | tojson(indent=4) }}
{{- "\\n\\n" }}
{%- endfor %}
{%- endif %}
{{- system_message }}<|eot_id|>
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}{{ tool_call.arguments | tojson }}{{ "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- endif %}
{%- endfor %}""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
{{- user_messages|length }}""",
    "turns": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}""",
    "turns-macro": """{%- macro content(message, trims=true) -%}
{%- if message.content is string -%}
{{ message.content | trim if trims else message.content }}
{%- else -%}
{%- for item in message.content if item.type == 'text' -%}{{ item['text'] }}{{ ', ' if not loop.last }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
<{{ message.role | upper }}>{{ content(message) }}|{{ content(message, trims=false) }}{{ '\\n' }}
{%- else -%}
nothing
{%- endfor -%}""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "phi": """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '
' + message['content'] + '<|end|>' + '
' + '<|assistant|>' + '
'}}{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '
'}}{% endif %}{% endfor %}""",
    "thinking": """{%- set ns = namespace(last=messages|length - 1, multi=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi is false and message.role == "user" and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {%- if loop.last or (not loop.last and thought) %}
                {{- '<' ~ message.role ~ '>\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}{{- content }}{%- endif %}
        {%- else %}
            {{- '<' + message.role + '>' + content }}
        {%- endif %}
        {{- '\\n' }}
    {%- else %}
        {{- '<' + message.role + '>' + message.content + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<assistant>\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
}

PARTS = [
    # White space
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a {%- if true -%} b {%- endif -%} c", "  {% if true %}x{% endif %}  \n y", "{% if true +%}\nx\n{% endif %}", "a\n   {%+ if true %}x{% endif %}",
    "a\n  {{ 1 }}\n  {{- 2 }}\n  {{ 3 -}}\n  b", "{# c #}\nx {#- d -#} y\n  {# e #}\nz", "x\n\n", "x\r\ny\r\n  {% if 1 %}\r\nz{% endif %}", "{% raw %}{{ x }} {% if %}{% endraw %}!", "a{% set x = 1 %}\n\nb {{ x }}\n  {% set y %}\n  in {{ x }}\n  {% endset %}[{{ y }}]",
    "{% for i in range(3) %}\n  {{ i }}\n{% endfor %}", "{% for i in [1,2] %} {{ i }} {% endfor %}", "\n{% if 1 %}x{% endif %}\n{% if 1 %}{% endif %}  {% if 1 %}\n  y{% endif %}",
    # Expressions
    "{{ 1 + 2 * 3 - 4 // 3 % 2 ** 2 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1.5 + 1 }} {{ 2 * 'ab' }} {{ 3.0 }} {{ 1e3 if false else 10 }}", "{{ 'a' ~ 1 ~ none ~ true ~ 1.0 }} {{ 'a' 'b' }} {{ \"it's\" }} {{ 'x\\ty\\\\z\\u00e9' }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'é' == 'e\u0301' }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1.0} }}", "{{ 'b' in 'abc' }} {{ 1 in [1, 2] }} {{ 'a' in {'a': 1} }} {{ 'x' not in 'abc' }} {{ not 1 in [2] }} {{ 'x' in nothing }}",
    "{{ not true or true and false }} {{ 0 or 'x' }} {{ 1 and 2 }} {{ '' or none }} {{ nothing or 'y' }} {{ not not 1 }}", "{{ [1, 'a', none, true, 1.5, {'k': 'v'}, 'it\\'s', 'q\"'] }} {{ (1, 2)|list }} {{ {'a': [1]} }} {{ [] }}{{ {} }}",
    "{{ messages|length }} {{ messages[0].role }} {{ messages[-1]['role'] }} {{ messages[99] }} {{ messages[0].nothing }} {{ messages[0]['no'] is defined }}", "{{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ 'hello'[-3:] }} {{ [1,2,3,4][1::2] }} {{ [1,2,3][:-1] }} {{ [1,2,3][5:] }} {{ 'héllo'[1] }} {{ [1,2,3,4,5][3:0:-1] }} {{ 'abc'[:99] }}",
    "{{ 'yes' if messages else 'no' }}{{ 'x' if false }}{{ ('a' if 1 else 'b') ~ 'c' }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x = 'o' %}{% for i in [1] %}{% set x = 'i' %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 'if' %}{% endif %}{{ x }}",
    "{% set ns = namespace(a=1, b='x') %}{% for i in range(4) %}{% set ns.a = ns.a + i %}{% set ns.c = i %}{% endfor %}{{ ns.a }} {{ ns.b }} {{ ns.c }} {{ ns.d is defined }}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }}{% if not loop.last %}, {% endif %}{% endfor %} {% for x in [] %}x{% else %}none{% endfor %} {% for i in range(5) if i % 2 %}{{ loop.index }}/{{ loop.length }}:{{ i }} {{ loop.first }} {{ loop.revindex }} {{ loop.previtem }} {{ loop.nextitem }};{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in range(2) %}{% for j in range(2) %}{{ i }}{{ j }}{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}", "{% for c in 'añ中' %}[{{ c }}]{% endfor %}{% for k in {'x': 1} %}{{ k }}{% endfor %}",
    "{% macro m(a, b='B', c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 2) }} {{ m(a=3, c=4) }} {{ m('x')|upper }} {{ m() }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% set t = 'T' %}{% macro m() %}{{ t }}{{ bos_token }}{% endmacro %}{{ m() }}",
    "{% generation %}x{{ 1 }}{% endgeneration %}", "{{ dict(a=1, b=[2]) }} {{ range(2, 8, 3)|list }} {{ range(3)|list }} {{ range(5, 0, -2)|list }}", "{% if 0 %}a{% elif '' %}b{% elif [0] %}c{% else %}d{% endif %}",
    # Filters
    "{{ '  x '|trim }}|{{ 'xxaxx'|trim('x') }}|{{ 'aB c'|upper }}|{{ 'ÀB'|lower }}|{{ 'hello WORLD'|capitalize }}|{{ \"it's a-b (c)\"|title }}|{{ 'abc'|length }}|{{ {'a': 1}|count }}", "{{ [3, 1, 2]|sort }} {{ ['b', 'A', 'a']|sort }} {{ [1, 2]|reverse|list }} {{ 'abc'|reverse }} {{ [1, 1, 2]|unique|list }} {{ [1, 2, 3]|sum }} {{ ['b', 'A']|sort(reverse=true) }} {{ [{'a': 2}, {'a': 1}]|sort(attribute='a') }}",
    "{{ nothing|default('d') }} {{ ''|default('d') }} {{ ''|default('d', true) }} {{ none|d('x') }} {{ nothing|d }}.", "{{ [1, 'a', none]|join('-') }} {{ 'abc'|join(',') }} {{ [{'a': 1}, {'a': 2}]|join(', ', attribute='a') }} {{ [1,2]|first }} {{ [1,2]|last }} {{ []|first }} {{ 'xy'|last }}",
    "{{ 'aXbXc'|replace('X', '-') }} {{ 'aXbXc'|replace('X', '-', 1) }} {{ 'ab'.replace('', '.') }} {% for k, v in {'a': 1}|items %}{{ k }}{{ v }}{% endfor %} {% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% endfor %}", "{{ '12'|int + 1 }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ 3.9|int }} {{ '1.5'|float }} {{ 5|string + 'a' }} {{ -3|abs }} {{ 'é'|string|length }}",
    "{{ messages|map(attribute='role')|list }} {{ ['a','b']|map('upper')|join }} {{ [0, 1, '', 'x']|select|list }} {{ [1, 2, 3]|select('odd')|list }} {{ [1,2,3]|reject('equalto', 2)|list }} {{ [1,2,3]|select('>', 1)|list }}", "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join(';') }} {{ messages|rejectattr('role', 'eq', 'user')|list|length }} {{ messages|selectattr('name')|list }} {{ messages|selectattr('role', 'in', ['user', 'x'])|list|length }}",
    "{{ {'a': 1, 'b': [true, none, 1.5, 'é\"\\n'], 'c': {}}|tojson }} {{ {'a': 1, 'b': [1, {'x': []}]}|tojson(indent=2) }} {{ [1,'<>&\\'']|tojson }} {{ 'é'|tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }} {{ [1,2]|tojson(separators=(',', ':')) }}", "{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\n\nb'|indent(1, blank=true) }}",
    # Tests
    "{{ nothing is defined }} {{ messages is defined }} {{ none is none }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ 1 is number }} {{ 1.0 is float }} {{ 1 is integer }} {{ true is boolean }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ [] is sequence }} {{ nothing is undefined }}",
    "{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 1 is eq 1 }} {{ 1 is equalto(2) }} {{ 2 is gt 1 }} {{ 'a' is in 'abc' }} {{ 'a' is not string }} {{ 'a' is lower }} {{ 'A' is upper }} {{ range is callable }} {{ none is not defined }}",
    # Methods
    "{{ ' a '.strip() }}|{{ 'xax'.strip('x') }}|{{ ' a'.lstrip() }}|{{ 'a '.rstrip() }}|{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a-b-c'.split('-', 1) }}|{{ 'a-b-c'.rsplit('-', 1) }}|{{ 'a\nb\r\nc\n'.splitlines() }}", "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'aBc'.upper() }} {{ 'ABC'.lower() }} {{ \"they're bill's\".title() }} {{ 'hello wORLD'.capitalize() }} {{ 'aa'.replace('a', 'b', 1) }} {{ 'abcb'.find('b') }} {{ 'abcb'.find('z') }} {{ 'abcb'.count('b') }} {{ '-'.join(['a', 'b']) }}",
    "{{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'A'.isupper() }} {{ 'a1'.islower() }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py') }}", "{{ {'a': 1}.keys()|list }} {{ {'a': 1}.values()|list }} {{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 2) }} {{ [1, 2, 1].count(1) }} {{ [1, 2].index(2) }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %b %B %a %A %j %y %I %p %%') }}", "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ sep_token }}{{ tools }}{{ documents }}{{ add_generation_prompt }}",
    # Errors
    "{{ nothing.x }}", "{{ 1 + 'a' }}", "{{ 'a' + nothing }}", "{{ 1 / 0 }}", "{{ 'a' < 1 }}", "{% for x in 5 %}{% endfor %}", "{{ nothing() }}", "{{ 5() }}", "{{ messages.append(1) }}", "{{ raise_exception('no') }}", "{% if true %}", "{% endif %}", "{{ 1 +  }}", "{{ 'a }}", "{{ [1 }}", "{% unknown %}", "{{ x|unknown }}", "{{ x is unknown }}",
    "{% for i in range(1000000) %}{% endfor %}", "{{ 5 in 5 }}", "{% set a, b = [1] %}", "{{ 1|tojson }}{{ nothing|tojson }}", "{{ {}.pop('a') }}", "{{ ''.__class__ }}", "{{ messages[0].__class__.__mro__ }}", "{{ 'x' 5 }}", "{{", "{% if %}x{% endif %}", "{% for in x %}{% endfor %}", "{{ namespace(1) }}", "{# never", "{% set x.y = 1 %}",
]

TEXT = "Where is the old mill?"
CONVERSATIONS = [
    [{"role": "user", "content": TEXT}],
    [{"role": "system", "content": "  You know the country. \n"}, {"role": "user", "content": "  " + TEXT + "\n"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}, {"role": "assistant", "content": " By the river. "}, {"role": "user", "content": "Thanks! é 中 👩‍👩‍👧 <s> {{ 1 }}"}],
    [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nBy the river."}],
    [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": ""}],
    [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
    [{"role": "user", "content": "one"}, {"role": "system", "content": "late"}],
    [{"role": "narrator", "content": "It rains."}],
    [],
    [{"role": "user", "content": [{"type": "text", "text": "part one"}, {"type": "image"}, {"type": "text", "text": "part two"}]}],
    [{"role": "user", "content": "weather?"}, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}]}, {"role": "tool", "content": {"rain": True, "mm": 1.5}}],
    [{"role": "user"}],
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]


class Clock(datetime.datetime):
    @classmethod
    def now(cls):
        return NOW


def rendered(template, messages, add_generation_prompt, others):
    try:
        compiled = chat_template_utils._compile_jinja_template(template)
        return compiled.render(messages=messages, add_generation_prompt=add_generation_prompt, **{"tools": None, "documents": None, **TOKENS, **others})
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ZeroDivisionError, KeyError, IndexError, OverflowError, AttributeError):
        return None


def main():
    chat_template_utils.datetime = Clock
    cases = []
    for name, template in STYLES.items():
        for index in range(len(CONVERSATIONS)):
            for prompt, others in ((False, {}), (True, {}), (True, {"tools": TOOLS, "enable_thinking": False})):
                if others and name not in ("headers-date", "thinking"):
                    continue
                cases.append([name, index, prompt, others, rendered(template, CONVERSATIONS[index], prompt, others)])
    parts = [[template, rendered(template, CONVERSATIONS[2], False, {})] for template in PARTS]
    value = {"templates": STYLES, "conversations": CONVERSATIONS, "tokens": TOKENS, "now": NOW.replace(tzinfo=datetime.timezone.utc).timestamp(), "cases": cases, "parts": parts}
    (GOLDEN / "chat.json").write_bytes((json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    print(f"{len(cases)} conversations, {sum(case[4] is None for case in cases)} refused; {len(parts)} parts, {sum(part[1] is None for part in parts)} refused; transformers {transformers.__version__}, jinja2 {jinja2.__version__}")


if __name__ == "__main__":
    main()
