"""Every turn of a conversation, whatever its cache held, is the stock model on exactly the tokens of its prompt."""

import pytest
import torch

from dialogues import WORDS, Dialogue
from foveate.conformance.reference import relative_error
from foveate.method.foveate import Foveate
from foveate.runtime.prompt_cache import PromptCache
from foveate.runtime.turns import POLICIES, check_turns

ROPE_AXES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v")
COUNTED = ("llava", "llava_next", "idefics3", "smolvlm", "internvl", "mistral3")
BOTH_WAYS = ("gemma3",)
STATES = ("qwen3_5", "lfm2_vl", "nemotron_h_omni")
ACROSS = ("mllama",)
FAMILIES = (*ROPE_AXES, *COUNTED, *BOTH_WAYS, *STATES, *ACROSS)
ANSWER = 3
METHOD = Foveate(focus=10.0)  # whose choice changes with every question


class Conversation:
    """A dialogue whose turns are answered through a cache, and the sequence of columns that it should hold."""

    def __init__(self, name, turns, positions="original", memory=None):
        self.dialogue = Dialogue(name)
        self.model = self.dialogue.model
        self.policy = check_turns(turns, 0.3, METHOD, positions, memory)
        self.prompts = PromptCache(self.model, is_compact=positions == "compact")
        self.kept, self.order = (), []

    def ask(self, *, show=False, **options):
        """A turn; (tokens taken from the cache, tokens of the prompt, error of all logits)."""
        dialogue = self.dialogue
        if show:
            dialogue.show()
        dialogue.say()
        prompt = dialogue.prompt()
        with torch.no_grad():
            short = self.policy.prune(self.model, prompt, self.kept)
        visual = dialogue.family.token_id(self.model.config)
        settings = {"max_new_tokens": ANSWER, "do_sample": False, "output_logits": True, "suppress_tokens": [visual]}
        rest, settings, cached = self.prompts.begin(short, {**settings, **options}, appends=self.policy.appends)
        output = self.model.generate(**rest, **settings)
        self.prompts.finish(output)
        self.kept, self.short = short.report.items, short
        self.order = self.find_order(short, cached)
        answer = output.sequences[0, len(self.order) :].tolist()
        stock = dialogue.run_stock(self.order, [item.kept for item in self.kept], answer[:-1])
        error = relative_error(torch.cat(list(output.logits)), stock)
        length = len(self.order)
        self.order = [*self.order, *range(len(dialogue.ids), len(dialogue.ids) + len(answer) - 1)]
        dialogue.say(answer)
        return cached, length, error

    def find_order(self, short, cached):
        """The columns of the prompt, in the order of the policy."""
        columns = set(short.layout.index[0].tolist())
        first = self.order[:cached] if self.policy.appends else []
        return [*first, *sorted(columns - set(first))]


@pytest.mark.parametrize("turns", POLICIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_turn_is_the_stock_model_on_its_tokens(name, turns):
    """A question, another one about the same image, one beside a new image, one more."""
    conversation = Conversation(name, turns)
    for show in (True, False, True, False):
        held = len(conversation.order)
        cached, length, error = conversation.ask(show=show)
        assert error < 1e-5
        assert cached < length
        if turns != "rechoose" and not (show and name in ACROSS):
            assert cached == held  # nothing was computed again
        if name in STATES:
            assert cached in (0, held)  # a state cannot go back
    if turns == "recall" and name not in ACROSS:  # what was recalled stands behind the words before it
        assert conversation.order != sorted(conversation.order)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "gemma3"])
@pytest.mark.parametrize("turns", POLICIES)
def test_compact_positions(name, turns):
    """Numbered in the order of the sequence."""
    conversation = Conversation(name, turns, positions="compact")
    for show in (True, False, True, False):
        conversation.dialogue.compact = True
        cached, _, error = conversation.ask(show=show)
        assert error < 1e-5
    assert cached or turns == "rechoose"


@pytest.mark.parametrize("turns", POLICIES)
@pytest.mark.parametrize("name", ["qwen2_5_vl", "lfm2_vl", "mllama"])
def test_an_answer_that_reads_differently_in_the_next_prompt(name, turns):
    """The template may spell it with other ids: the cache is cut before them, or given up."""
    conversation = Conversation(name, turns)
    conversation.ask(show=True)
    conversation.dialogue.ids[-2] += 1
    conversation.dialogue.ids.insert(-1, 11)
    held = len(conversation.order)
    cached, _, error = conversation.ask()
    assert error < 1e-5
    assert cached < held
    assert cached == held - 1 or turns == "rechoose" or name != "qwen2_5_vl"


@pytest.mark.parametrize("name", ["llava", "qwen3_5"])
def test_the_same_prompt_again(name):
    """All but its last token is there, where a cache can be cut."""
    conversation = Conversation(name, "rechoose")
    conversation.ask(show=True)
    dialogue = conversation.dialogue
    dialogue.ids, dialogue.rng = dialogue.ids[: -ANSWER - WORDS], torch.Generator().manual_seed(3)
    cached, length, error = conversation.ask()
    assert error < 1e-5
    assert cached == (length - 1 if name == "llava" else 0)


def test_a_full_window_is_not_cut():
    """Gemma's local layers have forgotten what stood before their window."""
    conversation = Conversation("gemma3", "rechoose")
    conversation.model.config.text_config.sliding_window = 8
    conversation.ask(show=True)
    cached, _, error = conversation.ask()
    assert (cached, error < 1e-5) == (0, True)
    frozen = Conversation("gemma3", "frozen")
    frozen.model.config.text_config.sliding_window = 8
    frozen.ask(show=True)
    held = len(frozen.order)
    cached, _, error = frozen.ask()
    assert (cached, error < 1e-5) == (held, True)


@pytest.mark.parametrize("turns", POLICIES)
def test_memory_is_a_limit(turns):
    """Where what was kept and what is needed are too many together, all are chosen anew."""
    conversation = Conversation("llava", turns, memory=7)
    for show in (True, False, True, False):
        _, _, error = conversation.ask(show=show)
        assert error < 1e-5
        assert conversation.short.report.kept_count <= 7


@pytest.mark.parametrize("name", ["paligemma", "molmo2", "unlimited_ocr"])
def test_prompts_whose_words_see_later_ones_are_computed_whole(name):
    conversation = Conversation(name, "frozen")
    dialogue, settings = conversation.dialogue, {"max_new_tokens": 1, "output_logits": True}
    dialogue.show()
    for _ in range(2):
        dialogue.say()
        prompt = dialogue.prompt()
        short = conversation.policy.prune(conversation.model, prompt, conversation.kept)
        conversation.kept = short.report.items
        inputs, options, cached = conversation.prompts.begin(short, settings, appends=False)
        assert (inputs, options, cached) == (short, settings, 0)
        conversation.prompts.finish(conversation.model.generate(**inputs, **options))


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}, {"use_cache": False},
     {"prompt_lookup_num_tokens": 2}, {"cache_implementation": "static"}],
)  # fmt: skip
def test_other_ways_to_generate_take_the_whole_prompt(options):
    conversation = Conversation("qwen2_5_vl", "frozen")
    conversation.ask(show=True)
    dialogue = conversation.dialogue
    dialogue.say()
    prompt = dialogue.prompt()
    short = conversation.policy.prune(conversation.model, prompt, conversation.kept)
    inputs, taken, cached = conversation.prompts.begin(short, options, appends=False)
    assert (inputs, taken, cached) == (short, options, 0)
    output = conversation.model.generate(**inputs, **taken, max_new_tokens=2)
    conversation.prompts.finish(output)
    assert conversation.prompts.length == 0


def test_a_failed_answer_leaves_no_cache():
    conversation = Conversation("llava", "frozen")
    conversation.ask(show=True)
    assert conversation.prompts.length
    dialogue = conversation.dialogue
    dialogue.say()
    prompt = dialogue.prompt()
    short = conversation.policy.prune(conversation.model, prompt, conversation.kept)
    conversation.prompts.begin(short, {}, appends=False)
    conversation.prompts.finish(None)
    assert conversation.prompts.length == 0
    del dialogue.ids[-WORDS:]
    cached, _, error = conversation.ask()
    assert (cached, error < 1e-5) == (0, True)
