"""The question is found in prompts of any chat template that was learned before."""

import re
from dataclasses import fields
from types import SimpleNamespace

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from foveate.errors import ModelError
from foveate.models import Family
from foveate.models.chat_template import MERGED, OTHER, PREAMBLE, SPECIAL, UNLEARNED, USER, ChatTemplate
from foveate.pipeline.question import find_question, read_template
from foveate.runtime.chat_template import learn_template, read_chat_template
from templates import QWEN3_TEMPLATE, QWEN25_TEMPLATE, vicuna_tokenizer

PARTS = (
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
)
EACH, END = "{% for message in messages %}", "{% endfor %}"


def prompt(text):
    return "{% if add_generation_prompt %}" + text + "{% endif %}"


def by_role(*turns):
    user, assistant, system = (turn.replace("WORDS", PARTS) for turn in turns)
    return (
        "{% if message['role'] == 'user' %}" + user + "{% elif message['role'] == 'assistant' %}" + assistant
        + "{% else %}" + system + "{% endif %}"
    )  # fmt: skip


REFUSE = "{{ raise_exception('no system') }}"
STYLES = {  # what published templates render, in the forms that differ
    "chatml": QWEN3_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "IMAGE"),
    "chatml with a system prompt of its own": QWEN25_TEMPLATE.replace(
        "<|vision_start|><|image_pad|><|vision_end|>", "IMAGE"
    ),
    "headers": "<s>" + EACH + "<|h|>{{ message['role'] }}<|/h|>\n\n" + PARTS + "<|eot|>" + END
    + prompt("<|h|>assistant<|/h|>\n\n"),
    "start of turn": "<s>" + EACH + by_role("<turn>user\nWORDS<end>\n", "<turn>model\nWORDS<end>\n", REFUSE) + END
    + prompt("<turn>model\n"),
    "instructions": "<s>" + EACH + by_role("[INST]WORDS[/INST]", "WORDS</s>", "[SYS]WORDS[/SYS]") + END,
    "role tokens": "<s>" + EACH + by_role("<T><U>WORDS<E>", "<T><C>WORDS<E>", "<T><S>WORDS<E>") + END
    + prompt("<T><C>"),
    "token and newline": "<s>" + EACH + by_role("<|user|>\nWORDS", "<|assistant|>\nWORDS", "<|system|>\nWORDS") + END
    + prompt("<|assistant|>\n"),
    "plain words": EACH + by_role("Human: WORDS\n\n", "Assistant: WORDS</s>", "WORDS\n\n") + END + prompt("Assistant:"),
    "middle": EACH + "<|im_{{ message['role'] }}|>{{ message['role'] }}<|mid|>" + PARTS + "<|im_end|>" + END
    + prompt("<|im_assistant|>assistant<|mid|>"),
}  # fmt: skip
SPECIALS = (
    "<s>", "</s>", "<img>", "<boi>", "<eoi>", "<|im_start|>", "<|im_end|>", "<|h|>", "<|/h|>", "<|eot|>", "<turn>",
    "<end>", "[INST]", "[/INST]", "[SYS]", "[/SYS]", "<T>", "<U>", "<C>", "<S>", "<E>", "<|user|>", "<|assistant|>",
    "<|system|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|mid|>",
)  # fmt: skip


def byte_tokenizer(template):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template.replace("IMAGE", "<boi><img><eoi>\n")
    return tokenizer


class Config:
    """As little as a configuration says of a template: the end and the image."""

    def __init__(self, tokenizer, image="<img>"):
        self.image_token_id = tokenizer.convert_tokens_to_ids(image)
        self.vocab_size = 100_000
        self.eos_token_id = tokenizer.eos_token_id

    def get_text_config(self):
        return self


@pytest.fixture(params=STYLES)
def question_of(request):
    tokenizer = byte_tokenizer(STYLES[request.param])
    config = Config(tokenizer)
    model = SimpleNamespace(config=config)
    learn_template(model, tokenizer)
    template = read_template(model, Family("llava"))

    def extract(*turns, system=None):
        messages = [{"role": "system", "content": system}] if system else []
        for number, turn in enumerate(turns):
            parts = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in turn]
            messages.append({"role": ("user", "assistant")[number % 2], "content": parts})
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=len(turns) % 2 == 1)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        where = find_question(ids, ids.index(config.image_token_id), template, [False] * len(ids))
        return "".join(tokenizer.decode([ids[i] for i in where]).split())  # blanks of their own are no words

    return extract


def test_the_question_and_nothing_else(question_of):
    assert question_of([None, "What is it?"]) == "Whatisit?"
    assert question_of(["Look at this: ", None, "and say what it is."]) == "Lookatthis:andsaywhatitis."


def test_the_last_turn_is_the_question(question_of):
    assert question_of([None, "What is it?"], ["A cat."], ["How old?"]) == "Howold?"
    assert question_of([None, "What is it?"], ["A cat."]) == "Whatisit?"


@pytest.mark.parametrize("question_of", [name for name in STYLES if name != "start of turn"], indirect=True)
def test_a_system_prompt_is_no_question(question_of):
    assert question_of([None, "Who is it?"], system="Speak like a pirate.") == "Whoisit?"


def test_vicuna_spells_its_roles_in_two_ways():
    tokenizer = vicuna_tokenizer()
    template = read_chat_template(tokenizer)
    assert list(template.openings) == ["USER:"]
    assert list(template.endings) == ["ASSISTANT:"]
    for text in ("USER: Who? ASSISTANT:", "A dialog. USER: Who? ASSISTANT:", "\nUSER: Who?\n ASSISTANT: A cat.</s>"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        columns = find_question(ids, 0, template, [False] * len(ids))
        assert tokenizer.decode([ids[c] for c in columns]).strip() == "Who?"


ONE_TURN = EACH + by_role("<T><U>WORDS<E>", "{{ raise_exception('no') }}", "") + END


@pytest.mark.parametrize("template", [None, EACH + PARTS + END, "{{ raise_exception('no') }}", "hello", ONE_TURN])
def test_errors_for_templates_that_cannot_be_learned(template):
    tokenizer = byte_tokenizer(template or "")
    if template is None:
        tokenizer.chat_template = None
    with pytest.raises(ModelError, match=r"set config\.foveate_template by hand"):
        read_chat_template(tokenizer)


def test_a_slow_tokenizer_is_refused():
    for slow in (SimpleNamespace(is_fast=False), SimpleNamespace(), SimpleNamespace(tokenizer=SimpleNamespace())):
        with pytest.raises(ModelError, match="load the fast one"):
            read_chat_template(slow)


def test_a_processor_that_writes_no_text_is_refused():
    tokenizer = byte_tokenizer(STYLES["chatml"])
    processor = SimpleNamespace(
        tokenizer=tokenizer,
        apply_chat_template=lambda *args, **kwargs: [tokenizer.apply_chat_template(*args, **kwargs)],
    )
    with pytest.raises(ModelError, match="no chat template for a question"):
        read_chat_template(processor)


def find_words(tokenizer, text, template=None):
    """The question in a prompt, without blanks."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    image = tokenizer.convert_tokens_to_ids("<img>")
    first = ids.index(image) if image in ids else 0
    columns = find_question(ids, first, template or read_chat_template(tokenizer), [False] * len(ids))
    return "".join(tokenizer.decode([ids[column] for column in columns]).split())


@pytest.mark.parametrize("spelled", ["message['content'] | trim", "message['content'] | tojson"])
def test_a_template_that_prints_parts_is_read_from_strings(spelled):
    """Where it expects a string, a list of parts is printed as Python or JSON spells it."""
    tokenizer = byte_tokenizer(EACH + "<T>{{ message['role'] }}: {{ " + spelled + " }}<E>" + END)
    template = read_chat_template(tokenizer)
    quote = '"' if "tojson" in spelled else ""
    assert find_words(tokenizer, f"<T>user: {quote}<img> What?{quote}<E><T>assistant: ", template) == "What?"


@pytest.mark.parametrize(
    "label",
    [
        "<0.3 seconds>", "<12.0 seconds>", "00:07 ", "01:02:03.500", "Frame1: ", "Frame 12 sampled at 0.50 seconds: ",
        "Frame from 00:01:", "frame 2:", "Here is the original image ",
        " and here are some crops to help you see better ",
        "You are provided the following series of three frames from a 0:00:09 [H:MM:SS] video.\n\nFrame from 00:00:",
        "<boi>7", "<boi>0.5",
    ],
)  # fmt: skip
def test_what_processors_write_beside_an_image_is_no_word(label):
    tokenizer = byte_tokenizer(STYLES["chatml"])
    prompt = "<|im_start|>user\n{}<boi><img><eoi>Who?<|im_end|>\n<|im_start|>assistant\n"
    assert find_words(tokenizer, prompt.format(label)) == "Who?"
    told = label.replace("<boi>", "")  # the same words elsewhere are the user's
    plain = prompt.format("").replace("Who?", f"Who? {told} Why?")
    assert find_words(tokenizer, plain) == "".join(f"Who?{told}Why?".split()) or "series of" in label


def test_words_of_the_template_beside_an_image_are_learned():
    tokenizer = byte_tokenizer(STYLES["chatml"].replace("IMAGE", "Picture 1: IMAGE (end)<eoi>"))
    prompt = "<|im_start|>user\nPicture {}: <boi><img><eoi>\n (end)<eoi>{}<|im_end|>\n<|im_start|>assistant\n"
    assert find_words(tokenizer, prompt.format(12, "Who?")) == "Who?"
    assert find_words(tokenizer, prompt.format("x", "Who is in Picture 2: he?")) == "Picturex:WhoisinPicture2:he?"


def test_prompts_of_another_template_are_taken_whole_with_a_doubt():
    tokenizer = byte_tokenizer(STYLES["chatml"])
    template = read_chat_template(tokenizer)
    ids = tokenizer("<img>Human: Who?</s>", add_special_tokens=False).input_ids
    dialog = template.split(ids, 0, [False] * len(ids))
    assert tokenizer.decode([ids[column] for column in dialog.find_question()]) == "Human:Who?"
    assert (dialog.doubt, dialog.is_whole) == (UNLEARNED, True)


def test_the_systems_words_before_an_image_in_the_users_turn():
    """The template parts them by a blank line alone; the processor's own blank lines may follow."""
    merged = "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'][0]['text'] + '\n\n' %}"
    merged += "{% set messages = messages[1:] %}{% endif %}" + EACH + "<turn>{{ message['role'] }}\n"
    merged += "{{ first if loop.first else '' }}" + PARTS + "<end>\n" + END + prompt("<turn>assistant\n")
    tokenizer = byte_tokenizer(merged)
    image = "<boi><img><eoi>"

    def read(*turns, lead=""):
        processor = SimpleNamespace(
            tokenizer=tokenizer, apply_chat_template=tokenizer.apply_chat_template, full_image_sequence=f"{lead}<boi>"
        )
        text = "".join(f"<turn>{('user', 'assistant')[n % 2]}\n{turn}<end>\n" for n, turn in enumerate(turns))
        ids = tokenizer(text + "<turn>assistant\n", add_special_tokens=False).input_ids
        first = ids.index(tokenizer.convert_tokens_to_ids("<img>"))
        dialog = read_chat_template(processor).split(ids, first, [False] * len(ids))
        return tokenizer.decode([ids[column] for column in dialog.find_question()]), dialog.doubt

    assert read(f"Be brief.\n\nNever lie.\n\n{image}Who?") == ("Who?", "")
    assert read(f"Be brief.\n\n{image}A.\n\n{image}Who?") == ("Who?", "")
    assert read(f"{image}Who?\n\nOne word.") == ("Who?Oneword.", "")
    assert read(f"Look: {image}Who?") == ("Look:Who?", "")
    assert read(f"Be brief.\n\nLook: {image}Who?") == ("Bebrief.Look:Who?", MERGED)
    assert read("Be brief.\n\nHello", "Hi", f"{image}Who?\n\nWhy?") == ("Who?Why?", "")
    assert read(f"Be brief.\n\n\n\n{image}Who?", lead="\n\n") == ("Who?", "")
    assert read(f"Look:\n\n{image}Who?", lead="\n\n")[0] == "Look:Who?"


# -- what is learned, field by field -----------------------------------------------------------------------------------


def write_turns(user, assistant, **others):
    """A template of these turns, which refuses other roles."""
    turns = {"user": user, "assistant": assistant, **others}
    choices = "".join(f"{{% elif message['role'] == '{role}' %}}{turn}" for role, turn in turns.items())
    choices = choices.replace("{% elif", "{% if", 1) + "{% else %}{{ raise_exception('no') }}{% endif %}"
    return EACH + choices.replace("WORDS", PARTS) + END


SYSTEM_FIRST = (  # `system` holds the system's words, and no turn does
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else none %}"
    "{% set system = system[0]['text'] if system and system is not string else system %}"
    "{% set messages = messages[1:] if system else messages %}"
)
MODEL = "<turn>model\nWORDS<end>\n"
ASKS = prompt("<turn>model\n")


def write_system(before, after, place="first"):
    """The system's words in the user's first turn, or the last."""
    words = f"{{% if system and loop.{place} %}}{before}{{{{ system }}}}{after}{{% endif %}}"
    return SYSTEM_FIRST + write_turns(f"<turn>user\n{words}WORDS<end>\n", MODEL) + ASKS


def write_tools(before, after, start="", tools="{{ tools | tojson }}"):
    """Descriptions of tools in the user's first turn, or before it."""
    words = f"{{% if tools and loop.first %}}{before}{tools}{after}{{% endif %}}"
    turn = f"{words}{start}WORDS<end>\n" if start else f"<turn>user\n{words}WORDS<end>\n"
    return write_turns(turn, MODEL) + ASKS


def write_results(turn):
    """Results of tools as turns."""
    return write_turns("<turn>user\nWORDS<end>\n", MODEL, tool=turn) + ASKS


def write_image(image):
    return write_turns("<turn>user\nWORDS<end>\n", MODEL).replace("IMAGE", image) + ASKS


def refuse_unless(*conditions):
    return "".join(
        f"{{% if not ({condition}) %}}{{{{ raise_exception('no') }}}}{{% endif %}}" for condition in conditions
    )


STRICT = (  # reads all that the schema of tools has, as published templates together do
    write_turns(
        "<turn>user\n{% if tools and loop.first %}{% for tool in tools %}"
        "{% set function = tool['function'] %}{% set parameters = function['parameters'] %}"
        + refuse_unless("tool['type'] == 'function'", "function['name']", "function['description']",
                        "parameters['type'] == 'object'", "parameters['properties']")
        + "{% for name, value in parameters['properties'].items() %}"
        + refuse_unless("value['type'] == 'string'", "value['description']", "name in parameters['required']")
        + "{% endfor %}{% endfor %}Tools: {{ tools | tojson }}. Go:{% endif %}WORDS<end>\n",
        "{% for call in message['tool_calls'] %}"
        + refuse_unless("call['id'] | length == 9", "call['id'].islower()", "call['type'] == 'function'",
                        "call['function']['name']", "call['function']['arguments'] is mapping",
                        "not message['content']")
        + "{% endfor %}" + MODEL,
        tool=refuse_unless("message['tool_call_id'] == messages[loop.index0 - 1]['tool_calls'][0]['id']")
        + "<turn>user\nResult: WORDS<end>\n",
    ) + ASKS
)  # fmt: skip
IMAGE_LAST = EACH + "<turn>{{ message['role'] }}\n" + (
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] "
    "if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% for part in message['content'] "
    "if part['type'] == 'image' %} Photo 1: IMAGE [end] {% endfor %}{% endif %}<end>\n"
) + END + prompt("<turn>model\n<T>think<end>")  # fmt: skip
TURN, TURN_END = {"<turn>user": USER}, ["<end>"]
LEARNED = {  # a template, and what is not empty of what is learned of it
    "chatml": (STYLES["chatml"], {"<|im_start|>user": USER}, ["<|im_end|>"], {}),
    "a turn of the system before every dialog": (
        STYLES["chatml with a system prompt of its own"], {"<|im_end|>\n<|im_start|>user": USER}, ["<|im_end|>"], {},
    ),
    "headers": (STYLES["headers"], {"<|h|>user<|/h|>": USER}, ["<|eot|>"], {}),
    "no turn of the system": (STYLES["start of turn"], TURN, TURN_END, {}),
    "no prompt": (STYLES["instructions"], {"[INST]": USER}, ["[/INST]"], {}),
    "the answer's opening is the end": (STYLES["token and newline"], {"<|user|>": USER}, ["<|assistant|>"], {}),
    "plain words": (STYLES["plain words"], {"Human:": USER}, ["Assistant:"], {}),
    "strings alone": (
        EACH + "{{ '<turn>' + message['role'] + '\n' + message['content'] + '<end>' }}" + END, TURN, TURN_END, {},
    ),
    "a prompt that is not how answers begin": (
        write_turns("Human: WORDS\n\n", "Bot: WORDS</s>") + prompt("Reply:"), {"Human:": USER}, ["Bot:", "Reply:"], {},
    ),
    "two openings with one end": (
        write_turns("{% if loop.first %}<s>Q: {% else %}<U>R: {% endif %}WORDS<end>", "<C>WORDS</s>") + prompt("<C>"),
        {":": USER}, TURN_END, {},
    ),
    "two openings and two ends": (
        write_turns("{% if loop.first %}<S>{% else %}<U>{% endif %} WORDS "
                    "{% if loop.last %}<E>{% else %}<end>{% endif %}", "<C>WORDS</s>"),
        {"<S>": USER, "</s><U>": USER}, ["<end><C>", "<E>"], {},
    ),
    "openings that begin differently": (
        write_turns("{% if loop.first %}Q{% else %}R{% endif %} <U>WORDS<end>", "<C>WORDS</s>") + prompt("<C>"),
        {"<U>": USER}, TURN_END, {},
    ),
    "ends that go on differently": (
        write_turns("<U>WORDS<end> {% if loop.last %}<E>{% else %}<S>{% endif %}", "<C>WORDS</s>"),
        {"<U>": USER}, TURN_END, {},
    ),
    "another opening behind the system's turn": (
        write_turns("{% if loop.index0 > 0 and messages[loop.index0 - 1]['role'] == 'system' %}<U>{% else %}<T>"
                    "{% endif %}WORDS<E>", "<C>WORDS<E>", system="<S>WORDS ") + prompt("<C>"),
        {"<T>": USER, "<U>": USER}, ["<E>"], {},
    ),
    "the system's words between marks": (
        write_system("<<SYS>>\n", "\n<</SYS>>\n\n"), {**TURN, "<turn>user\n<<SYS>>": PREAMBLE}, TURN_END,
        {"resumes": {"<turn>user\n<<SYS>>": "\n<</SYS>>\n\n"}},
    ),
    "the system's words before a mark": (
        write_system("", "<S>"), TURN, TURN_END, {"resumes": {"<turn>user": "<S>"}},
    ),
    "the system's words in the first turn": (
        write_system("", "\n\n"), TURN, TURN_END, {"merged": "first", "separator": "\n\n"},
    ),
    "the system's words in the last turn": (
        write_system("", "\n\n", "last"), TURN, TURN_END, {"merged": "last", "separator": "\n\n"},
    ),
    "the system's words without an end": (write_system("", ""), TURN, TURN_END, {}),
    "tools between marks": (
        write_tools("<T>", "<E>"), {**TURN, "<turn>user\n<T>": PREAMBLE}, TURN_END,
        {"resumes": {"<turn>user\n<T>": "]<E>"}},
    ),
    "tools between words": (
        write_tools("Tools: ", "\nUse them.\n"), {**TURN, "<turn>user\nTools:": PREAMBLE}, TURN_END,
        {"resumes": {"<turn>user\nTools:": "]\nUse them.\n"}},
    ),
    "tools in braces": (
        write_tools("Tools: {{ '{' }}", "{{ '}' }}\n"), {**TURN, "<turn>user\nTools:": PREAMBLE}, TURN_END,
        {"resumes": {"<turn>user\nTools:": "}\n"}},
    ),
    "tools by their names": (
        write_tools("Tools: ", ". Go:", tools="{{ tools[0]['function']['name'] }}"),
        {**TURN, "<turn>user\nTools:": PREAMBLE}, TURN_END, {"resumes": {"<turn>user\nTools:": ". Go:"}},
    ),
    "tools without an end": (
        write_tools("Tools: ", "{{ '\n' }}", tools="{{ tools[0]['function']['name'] }}"), TURN, TURN_END, {},
    ),
    "tools before words": (
        write_tools("", "\nUse them.\n"), TURN, TURN_END, {"resumes": {"<turn>user": "]\nUse them.\n"}},
    ),
    "tools before the turn": (write_tools("<T>", "<E>", "<turn>user\n"), TURN, TURN_END, {}),
    "tools in a turn of their own": (
        write_tools("<turn>user\nTools: ", "<end>\n", "<turn>user\n"), TURN, TURN_END, {},
    ),
    "tools, calls and results that are checked": (
        STRICT, {"<turn>user\nResult:": OTHER, **TURN, "<turn>user\nTools:": PREAMBLE}, TURN_END,
        {"resumes": {"<turn>user\nTools:": "]. Go:"}},
    ),
    "results that look like turns of the user": (
        write_results("<turn>user\nWORDS<end>\n"), TURN, TURN_END, {"has_unmarked_results": True},
    ),
    "results between marks": (
        write_results("<turn>user\n<T>WORDS<E><end>\n"), {"<turn>user\n<T>": OTHER, **TURN}, TURN_END, {},
    ),
    "results behind the name of the tool": (
        write_results("<turn>user\nOf {{ message['name'] }}: WORDS<end>"),
        {"<turn>user\nOf ": OTHER, **TURN}, TURN_END, {},
    ),
    "results in turns of their own": (write_results("<turn>tool\nWORDS<end>\n"), TURN, TURN_END, {}),
    "words before and behind an image": (
        write_image("Picture 1: IMAGE (end)<eoi>"), TURN, TURN_END,
        {"inserts": [r"Picture \d+: (?=<boi>)", "(?<=<eoi>)\n \\(end\\)(?=<eoi>)"]},
    ),
    "a word before an image": (write_image(" Photo IMAGE "), TURN, TURN_END, {"inserts": ["Photo (?=<boi>)"]}),
    "an image behind the words": (
        IMAGE_LAST, TURN, TURN_END, {"inserts": [r"Photo \d+: (?=<boi>)", "(?<=<eoi>)\n \\[end\\]"]},
    ),
    "a word behind an image": (
        write_image("IMAGE [photo 17] "), TURN, TURN_END, {"inserts": ["(?<=<eoi>)\n \\[photo \\d+\\]"]},
    ),
}  # fmt: skip


def spell_plainly(learned):
    """The fields that hold texts, with special tokens and blanks as they are written."""
    names = {chr(SPECIAL + n): learned.tokenizer.convert_ids_to_tokens(i) for n, i in enumerate(learned.specials)}
    names |= {"\u0120": " ", "\u010a": "\n"}

    def spell(value):
        if isinstance(value, dict):
            return {spell(key): spell(one) for key, one in value.items()}
        if isinstance(value, list):
            return [*map(spell, value)]
        return "".join(names.get(character, character) for character in value) if isinstance(value, str) else value

    own = ("tokenizer", "specials")
    return {field.name: spell(getattr(learned, field.name)) for field in fields(learned) if field.name not in own}


@pytest.mark.parametrize("name", LEARNED)
def test_what_is_learned(name):
    template, openings, endings, others = LEARNED[name]
    tokenizer = byte_tokenizer(template)
    learned = read_chat_template(tokenizer)
    expected = {
        "openings": openings, "endings": endings, "resumes": {}, "merged": "", "separator": "", "lead": "",
        "inserts": [], "has_unmarked_results": False, **others,
    }  # fmt: skip
    assert spell_plainly(learned) == expected
    assert [*spell_plainly(learned)["openings"]] == [*openings]  # the longer ones come first where both begin alike
    assert tokenizer.convert_ids_to_tokens(learned.specials) == [*SPECIALS]


def test_what_the_processor_adds():
    """Its own blank lines before an image; the tokenizer is inside it, and its first token is not of the template."""
    tokenizer = byte_tokenizer(STYLES["chatml"])
    start = ("<s>", tokenizer.convert_tokens_to_ids("<s>"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[start])
    for full, lead in (("\n\n<boi><img>\n", "\n\n"), ("<boi>\n", ""), ("", "")):
        processor = SimpleNamespace(
            tokenizer=tokenizer, apply_chat_template=tokenizer.apply_chat_template, full_image_sequence=full
        )
        learned = read_chat_template(processor)
        assert learned.tokenizer is tokenizer
        assert spell_plainly(learned)["lead"] == lead


def test_a_template_is_kept_on_the_model_as_plain_values():
    tokenizer = byte_tokenizer(STYLES["chatml"])
    model = SimpleNamespace(config=Config(tokenizer))
    learn_template(model, tokenizer)
    assert model.foveate_template == {
        f.name: getattr(read_chat_template(tokenizer), f.name) for f in fields(ChatTemplate)
    }
    with pytest.raises(ModelError, match=re.escape("model is 'mine': pass the model whose prompts will be pruned")):
        learn_template("mine", tokenizer)


def test_a_template_that_does_not_open_the_users_turn_is_refused():
    with pytest.raises(ModelError, match="does not separate user and assistant"):
        read_chat_template(byte_tokenizer(EACH + PARTS + "<T>" + END))
