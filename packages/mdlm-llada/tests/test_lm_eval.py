"""The model 'mdlm' of lm-evaluation-harness, run by the harness's own code."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("lm_eval", reason="the adapter needs lm-eval")

import lm_eval
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from mdlm_core.errors import UsageError
from mdlm_llada.checkpoint.tiny import tiny_checkpoint
from mdlm_llada.config import DecodeConfig
from mdlm_llada.generate import generate
from mdlm_llada.likelihood import LikelihoodSettings, score
from mdlm_llada.lm_eval import MaskedDiffusionLM
from mdlm_llada.lm_eval.prompts import encode, encode_pair, render
from mdlm_llada.models import load_model
from mdlm_llada.template import prompt_ids
from mdlm_llada.tokenizer import Specials

ROWS = [
    {"question": "1+1", "choices": ["2", "11"], "label": 0, "answer": "2"},
    {"question": "2+3", "choices": ["five", "5", "6"], "label": 1, "answer": "5"},
    {"question": "a <|eot_id|> b", "choices": ["c", "d"], "label": 0, "answer": "c"},
]
TASKS = {
    "tiny_choice": """
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
""",
    "tiny_answer": """
output_type: generate_until
doc_to_text: "{{question}} ="
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["\\n", "Q"]
  do_sample: false
  max_gen_toks: 12
metric_list:
  - metric: exact_match
""",
    "tiny_rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list:
  - metric: bits_per_byte
""",
}
ARGUMENTS = "mc_num=32,gen_length=16,steps=8,block_length=8,device=cpu"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "llada"
    return str(tiny_checkpoint(path, scale=2.0))


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    """Return the harness's tasks, read from files written here alone."""
    place = tmp_path_factory.mktemp("tasks")
    data = place / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, text in TASKS.items():
        head = f"task: {name}\ndataset_path: json\ntest_split: test\n"
        files = f"dataset_kwargs:\n  data_files:\n    test: {data}\n"
        (place / f"{name}.yaml").write_text(head + files + text)
    return TaskManager(include_path=str(place), include_defaults=False)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    """Keep the harness off the network, and from describing the machine."""
    import datasets

    cache = tmp_path_factory.getbasetemp() / "datasets"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


def evaluate(manager, tasks, arguments, name="mdlm", **options):
    return lm_eval.simple_evaluate(
        model=name,
        model_args=arguments,
        tasks=tasks,
        task_manager=manager,
        bootstrap_iters=0,
        **options,
    )


def request(*arguments):
    return SimpleNamespace(args=arguments)


# ---- the harness ------------------------------------------------------------


def test_all_kinds_of_tasks_run(folder, loaded, manager, tmp_path):
    found = evaluate(
        manager,
        list(TASKS),
        f"model_path={folder},{ARGUMENTS}",
        batch_size=2,
        use_cache=str(tmp_path / "cache"),
    )
    results, samples = found["results"], found["samples"]
    tokenizer = loaded.tokenizer
    settings = LikelihoodSettings(draws=32, greedy=True)
    right = 0
    for sample, row in zip(samples["tiny_choice"], ROWS, strict=True):
        prompt = tokenizer.encode(f"Question: {row['question']}\nAnswer:")
        answers = [tokenizer.encode(f" {choice}") for choice in row["choices"]]
        own = score(
            loaded.backbone, [(prompt, ids) for ids in answers], settings=settings
        )
        values = [one.log_likelihood for one in own]
        asked = [response[0] for response in sample["filtered_resps"]]
        assert asked == pytest.approx(values, abs=1e-4)
        right += values.index(max(values)) == row["label"]
    assert results["tiny_choice"]["acc,none"] == pytest.approx(right / len(ROWS))

    prompts = [tokenizer.encode(f"{row['question']} =") for row in ROWS]
    decode = DecodeConfig(temperature=0.0, steps=8, block=8, batch_size=2)
    answers = generate(loaded, prompts, answer_length=16, settings=decode)
    for sample, answer in zip(samples["tiny_answer"], answers, strict=True):
        text = tokenizer.decode(answer.ids[:12])
        for stop in ("\n", "Q"):
            text = text.split(stop)[0]
        assert sample["filtered_resps"] == [text]

    whole = [tokenizer.encode(row["question"]) for row in ROWS]
    own = score(loaded.backbone, [([], ids) for ids in whole], settings=settings)
    bits = -sum(one.log_likelihood for one in own) / sum(map(len, whole))
    bits /= 0.6931471805599453  # one token is one byte
    assert results["tiny_rolling"]["bits_per_byte,none"] == pytest.approx(
        bits, abs=1e-4
    )

    info = found["config"]
    assert info["model_name"] == folder
    assert info["likelihoods"] == 7 + 3
    assert info["likelihood_mean_standard_error"] > 0

    again = evaluate(  # everything is in the cache now
        manager,
        list(TASKS),
        f"model_path={folder},{ARGUMENTS}",
        batch_size=2,
        use_cache=str(tmp_path / "cache"),
    )
    assert again["config"]["likelihoods"] == 0
    assert again["results"] == found["results"]


def test_chats_get_the_template_of_training(folder, loaded, manager):
    found = evaluate(
        manager,
        ["tiny_answer"],
        f"pretrained={folder},{ARGUMENTS}",
        "llada",
        apply_chat_template=True,
    )
    prompts = [[{"role": "user", "content": f"{row['question']} ="}] for row in ROWS]
    for sample, prompt in zip(found["samples"]["tiny_answer"], prompts, strict=True):
        context = sample["arguments"][0][0]
        expected = prompt_ids(loaded.tokenizer, prompt, "llada")
        assert encode(loaded.tokenizer, context) == expected


def test_it_has_the_names_of_the_scripts():
    for name in ("mdlm", "llada_dist", "llada"):
        assert get_model(name) is MaskedDiffusionLM
    assert get_model("dummy") is not None  # the harness's own are still there


def test_the_launcher_is_the_harness(monkeypatch, capsys):
    from mdlm_llada.lm_eval.__main__ import main

    known = []
    monkeypatch.setattr(
        "lm_eval.__main__.cli_evaluate", lambda: known.append(get_model("mdlm"))
    )
    assert main() == 0
    assert known == [MaskedDiffusionLM]

    def fail():
        MaskedDiffusionLM(model_path="x", stepps=3)

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", fail)
    assert main() == 2
    assert capsys.readouterr().err == (
        "error: 'stepps' is no argument of the model mdlm; did you mean 'steps'?\n"
    )


def test_the_launcher_asks_for_no_device_of_its_own(monkeypatch):
    from lm_eval.config.evaluate_config import EvaluatorConfig

    from mdlm_llada.lm_eval.__main__ import main

    made = []
    monkeypatch.setattr(EvaluatorConfig, "__init__", EvaluatorConfig.__init__)

    def program():
        for given in ({}, {"device": "cuda:0"}):
            config = EvaluatorConfig(model="mdlm", tasks=["arc_easy"], **given)
            made.append(config.device)

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", program)
    assert main() == 0
    assert made == [None, "cuda:0"]


# ---- prompts ----------------------------------------------------------------


@pytest.mark.parametrize("template", ["llada", "plain", "none"])
def test_a_rendered_chat_is_the_prompt_of_training(loaded, template):
    turns = [
        {"role": "system", "content": "Be <|eot_id|> brief."},
        {"role": "user", "content": " 1+1? "},
    ]
    text = render(turns, template)
    ids = prompt_ids(loaded.tokenizer, turns, template)
    assert encode(loaded.tokenizer, text) == ids
    begun = [*turns, {"role": "assistant", "content": "It is"}]
    text = render(begun, "llada", begun=True)
    assert encode(loaded.tokenizer, text) == prompt_ids(
        loaded.tokenizer, begun, "llada"
    )


def test_marks_of_special_tokens_are_refused_in_a_text():
    turn = {"role": "user", "content": "x \ue000<|eot_id|>\ue001"}
    with pytest.raises(UsageError, match=r"U\+E000"):
        render([turn], "llada")
    with pytest.raises(UsageError, match="role 'tool'"):
        render([{"role": "tool", "content": ""}], "llada")


def test_spaces_go_to_the_continuation(loaded):
    tokenizer = loaded.tokenizer
    expected = tokenizer.encode("Q:"), tokenizer.encode("  yes")
    assert encode_pair(tokenizer, "Q: ", " yes") == expected
    assert encode_pair(tokenizer, "", "yes") == ([], tokenizer.encode("yes"))
    chat = render([{"role": "user", "content": "Q"}], "llada")
    prompt = prompt_ids(tokenizer, "Q", "llada")
    assert encode_pair(tokenizer, chat, "yes") == (prompt, tokenizer.encode("yes"))


def test_a_token_across_the_border_is_not_lost():
    class Pairs:
        name = "pairs"

        def encode(self, text):
            return [text[i : i + 2] for i in range(0, len(text), 2)]

    assert encode_pair(Pairs(), "abc", "d") == (["ab", "c"], ["d"])
    assert encode_pair(Pairs(), "abc", "de") == (["ab", "cd"], ["e"])


# ---- requests ---------------------------------------------------------------


@pytest.fixture(scope="module")
def model(loaded):
    return MaskedDiffusionLM(
        loaded, gen_length=16, block_length=8, steps=8, mc_num=16, batch_size=3
    )


def test_answers_do_not_depend_on_the_batch(model):
    asked = [request(f"{'x' * i} {i}", {"until": []}) for i in range(5)]
    together = model.generate_until(asked, disable_tqdm=True)
    alone = [model.generate_until([one], disable_tqdm=True)[0] for one in asked]
    assert together == alone
    assert len(set(together)) > 1


def test_drawn_answers_belong_to_their_requests(loaded):
    """Whatever the batch is, a prompt and its repetitions draw the same noise."""
    sizes = {"gen_length": 8, "block_length": 8, "steps": 4, "temperature": 1.0}
    asked = [request("x" * (1 + i % 3), {"until": []}) for i in range(10)]
    one, four, other = (
        MaskedDiffusionLM(loaded, **sizes, **more).generate_until(asked, True)
        for more in ({"batch_size": 1}, {"batch_size": 4}, {"seed": 1})
    )
    assert one == four
    assert one != other
    assert len(set(one)) == 10
    model = MaskedDiffusionLM(loaded, **sizes)
    some = [asked[i] for i in (8, 1, 5, 4)]  # two prompts twice
    found = model.generate_until(some, True)
    assert found == [one[i] for i in (2, 1, 5, 4)]
    hotter = request("xx", {"until": [], "temperature": 2.0})
    assert model.generate_until([hotter, *some], True)[1:] == found


def test_results_are_kept_as_they_come(model, monkeypatch):
    kept = []
    hook = SimpleNamespace(add_partial=lambda *found: kept.append(found))
    monkeypatch.setattr(model, "cache_hook", hook)
    asked = request("a", "b"), request("abc"), request("a", {"until": []})
    values = [
        model.loglikelihood(asked[:1], True)[0],
        model.loglikelihood_rolling(asked[1:2], True)[0],
        model.generate_until(asked[2:], True)[0],
    ]
    names = ["loglikelihood", "loglikelihood_rolling", "generate_until"]
    expected = zip(names, [one.args for one in asked], values, strict=True)
    assert kept == list(expected)


def test_each_request_is_decoded_as_it_says(model, monkeypatch):
    seen = []

    def watch(model, prompts, **options):
        seen.append((len(prompts), options["answer_length"], options["settings"]))
        return generate(model, prompts, **options)

    monkeypatch.setattr("mdlm_llada.lm_eval.adapter.generate", watch)
    asked = [
        request("a", {"until": "x"}),
        request("b", {"max_gen_toks": 20, "until": ["x"]}),
        request("c", {"temperature": 0.5, "do_sample": True, "cfg_scale": 1.0}),
        request("d", {"temperature": 0.5, "do_sample": False}),
        request("e", {"max_new_tokens": 4, "block_length": 4, "steps": 2}),
    ]
    assert len(model.generate_until(asked, disable_tqdm=True)) == 5
    shown = sorted(
        (rows, length, s.steps, s.block, s.temperature, s.cfg_scale)
        for rows, length, s in seen
    )
    assert shown == [
        (1, 4, 2, 4, 0.0, 0.0),
        (1, 16, 8, 8, 0.5, 1.0),
        (1, 24, 12, 8, 0.0, 0.0),
        (2, 16, 8, 8, 0.0, 0.0),
    ]


def test_the_first_stop_string_counts(model, monkeypatch):
    answer = SimpleNamespace(ids=model.loaded.tokenizer.encode("one two three two"))
    monkeypatch.setattr(
        "mdlm_llada.lm_eval.adapter.generate", lambda *_, **__: [answer]
    )
    for until, expected in (
        (["three", "two"], "one "),
        ("three", "one two "),
        ([], "one two three tw"),  # 16 tokens
        (["zebra", ""], "one two three tw"),
    ):
        asked = [request("a", {"until": until})]
        assert model.generate_until(asked, disable_tqdm=True) == [expected]


def test_likelihoods_do_not_depend_on_the_batch(model):
    asked = [request(f"{'x' * i} is", f" {'y' * (7 - i)}") for i in range(6)]
    together = model.loglikelihood(asked, disable_tqdm=True)
    for one, (value, greedy) in zip(asked, together, strict=True):
        found = model.loglikelihood([one], disable_tqdm=True)[0]
        assert found[0] == pytest.approx(value, abs=1e-4)
        assert found[1] is greedy


def test_long_texts_are_cut_into_windows(loaded):
    model = MaskedDiffusionLM(loaded, max_length=10, mc_num=64)
    ids = loaded.tokenizer.encode("0123456789abcdefghijklm")
    pairs = [([], ids[:10]), (ids[5:10], ids[10:15]), (ids[10:15], ids[15:20])]
    pairs += [(ids[15:20], ids[20:])]
    settings = LikelihoodSettings(draws=64, greedy=True)
    own = score(loaded.backbone, pairs, settings=settings)
    expected = sum(one.log_likelihood for one in own)
    asked = [request("0123456789abcdefghijklm"), request("abc")]
    found = model.loglikelihood_rolling(asked, disable_tqdm=True)
    assert found[0] == pytest.approx(expected, abs=1e-3)
    assert len(found) == 2


def test_long_prompts_lose_their_beginning_with_a_word(loaded, caplog):
    model = MaskedDiffusionLM(loaded, max_length=10, mc_num=16, gen_length=8)
    long = model.loglikelihood([request("0123456789", "yes")], disable_tqdm=True)
    short = model.loglikelihood([request("3456789", "yes")], disable_tqdm=True)
    assert long == short
    assert "cut at its beginning" in caplog.text
    with pytest.raises(UsageError, match="continuation has 11 tokens"):
        model.loglikelihood([request("", "0123456789a")], disable_tqdm=True)
    with pytest.raises(UsageError, match="leaves no room"):
        model.generate_until([request("a", {"max_gen_toks": 16})], disable_tqdm=True)


# ---- arguments --------------------------------------------------------------


def test_the_arguments_of_both_scripts_mean_the_same(loaded):
    llada = MaskedDiffusionLM(
        loaded,
        mask_id=None,
        mc_num=64,
        cfg=0.5,
        gen_length=32,
        steps=32,
        block_length=16,
        is_check_greedy=False,
        remasking="random",
    )
    dllm = MaskedDiffusionLM(
        loaded,
        mc_num=64,
        cfg_scale=0.5,
        max_new_tokens="32",
        steps=32,
        block_size=16,
        is_check_greedy=False,
        remasking="random",
        trust_remote_code=True,
        right_shift_logits=False,
        suppress_tokens="[]",
    )
    assert llada.arguments.decoding == dllm.arguments.decoding
    assert llada.arguments.likelihood == dllm.arguments.likelihood
    assert llada.arguments.answer_length == dllm.arguments.answer_length == 32
    assert llada.arguments.likelihood.cfg_scale == 0.5
    assert not llada.arguments.likelihood.greedy


@pytest.mark.parametrize(
    ("given", "eos", "ids"),
    [
        ({"suppress_tokens": "[5;7]"}, "never", (5, 7)),
        ({"begin_suppress_tokens": [5, 7]}, "last", (5, 7)),
        ({"logits_eos_inf": True}, "never", ()),
        ({"confidence_eos_eot_inf": True}, "last", ()),
        ({"logits_eos_inf": False, "suppress_tokens": ""}, "free", ()),
    ],
)
def test_ends_of_text_are_suppressed_as_the_scripts_say(loaded, given, eos, ids):
    decoding = MaskedDiffusionLM(loaded, **given).arguments.decoding
    assert (decoding.eos, decoding.eos_ids) == (eos, ids)


def test_suppressed_ends_do_not_occur(loaded):
    ends = Specials.of(loaded.tokenizer).ends
    model = MaskedDiffusionLM(loaded, gen_length=8, logits_eos_inf=True)
    decode = model.arguments.decoding
    answer = generate(loaded, ["ab"], answer_length=8, settings=decode)[0]
    assert not set(ends) & set(answer.ids)
    assert len(answer.ids) == 8


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"gen_len": 8}, "did you mean 'gen_length'"),
        ({"gen_length": 10, "block_length": 4}, "not a multiple of block_length"),
        ({"gen_length": 16, "block_length": 4, "steps": 6}, "set steps=8"),
        ({"gen_length": 16, "max_new_tokens": 32}, "two names of one thing"),
        ({"batch_size": "auto"}, "batch_size is 'auto'"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"suppress_tokens": "[a]"}, "write ids as"),
        ({"logits_eos_inf": True, "confidence_eos_eot_inf": True}, "not both"),
        ({"eos": "last", "logits_eos_inf": True}, "says already"),
        ({"right_shift_logits": True}, "does not shift"),
        ({"mc_num": 0}, "draws is 0"),
    ],
)
def test_arguments_that_cannot_work_are_refused(loaded, given, reason):
    with pytest.raises(Exception, match=reason) as caught:
        MaskedDiffusionLM(loaded, **given)
    assert type(caught.value).__name__ in ("UsageError", "ConfigError")


def test_a_model_is_needed():
    with pytest.raises(UsageError, match="model_path is missing"):
        MaskedDiffusionLM()
