"""Items to ids: the border of prefix and suffix, what stands in front, and ids that stand as given."""

import pytest

from memprobe.errors import CheckpointError, InputError, ItemError
from memprobe.scoring.tokenise import front_ids, tokenise
from memprobe.scoring.tokenizer import load_tokenizer

PLENTY = 400


@pytest.fixture
def tokenised(items, tokenizer, vocabulary_limits):
    """Return a tokeniser of item rows: tokenised([{"text": ...}], bos="none")."""

    def make(rows, *, with_tokenizer=tokenizer, bos="default", vocabulary=PLENTY, bos_id=None):
        limits = vocabulary_limits(vocabulary, bos_id=bos_id)
        return tokenise(items(rows), with_tokenizer, bos=bos, limits=limits)

    return make


def column(tokenised, name: str) -> list:
    return tokenised.table[name].to_list()


def test_the_whole_string_is_tokenised_once_without_front_or_end(tokenised, tokenizer) -> None:
    got = tokenised([{"item_id": "a", "text": "The miller's bells"}])
    assert (
        got.ids["a", "text"].tolist()
        == tokenizer("The miller's bells", add_special_tokens=False)["input_ids"]
    )
    assert column(got, "n_tokens") == [len(got.ids["a", "text"])]
    assert (
        column(got, "n_prefix_tokens")
        == column(got, "boundary_shift")
        == column(got, "n_foil_tokens")
        == [None]
    )
    assert tokenizer.decode(got.ids["a", "text"]) == "The miller's bells"


def test_prefix_and_suffix_are_joined_with_nothing_between_and_split_on_ids(tokenised, tokenizer) -> None:
    got = tokenised([{"item_id": "a", "prefix": "The access code", "suffix": " of Mara"}])
    ids = got.ids["a", "text"].tolist()
    assert ids == tokenizer("The access code of Mara", add_special_tokens=False)["input_ids"]
    n = column(got, "n_prefix_tokens")[0]
    assert (tokenizer.decode(ids[:n]), tokenizer.decode(ids[n:])) == ("The access code", " of Mara")
    assert column(got, "boundary_shift") == [False]


def test_a_token_that_crosses_the_border_belongs_to_the_suffix(tokenised, tokenizer) -> None:
    assert "Ġthe" in tokenizer.get_vocab()
    got = tokenised([{"item_id": "a", "prefix": "bells th", "suffix": "e bridge"}])
    ids = got.ids["a", "text"].tolist()
    n = column(got, "n_prefix_tokens")[0]
    assert tokenizer.decode(ids[:n]) == "bells"
    assert tokenizer.decode(ids[n:]) == " the bridge"
    assert column(got, "boundary_shift") == [True]


def test_a_space_at_the_end_of_the_prefix_belongs_to_the_suffix_with_its_word(tokenised, tokenizer) -> None:
    got = tokenised([{"item_id": "a", "prefix": "of ", "suffix": "the"}])
    assert column(got, "n_prefix_tokens") == [1]
    assert column(got, "boundary_shift") == [True]


@pytest.mark.parametrize("trim", [False, True])
def test_offsets_that_a_tokenizer_trims_do_not_move_the_border(tokenised, make_tokenizer, trim) -> None:
    # `\n   ` is one token, and a trimming post-processor says that it ends behind the `\n`.
    trimming = make_tokenizer(trim=trim)
    assert "ĊĠĠĠ" in trimming.get_vocab()
    rows = [
        {"item_id": "inside", "prefix": "bridge.\n  ", "suffix": "  It was"},
        {"item_id": "before", "prefix": "bridge.", "suffix": "\n    It was"},
        {"item_id": "behind", "prefix": "bridge.\n   ", "suffix": " It was"},
    ]
    got = tokenised(rows, with_tokenizer=trimming)
    n = dict(got.table.select("item_id", "n_prefix_tokens").iter_rows())
    prefixes = {name: trimming.decode(got.ids[name, "text"][: n[name]]) for name in n}
    assert prefixes == {"inside": "bridge.", "before": "bridge.", "behind": "bridge.\n   "}
    assert trimming("a")["input_ids"][0] == 0  # the post-processor is back in its place


@pytest.mark.parametrize(
    ("prefix", "suffix"), [("Brücke 橋", "は古い"), ("🙂", "🙂"), ("caf", "é crème"), ("e", "\u0301a")]
)
def test_characters_of_several_bytes_stay_whole_on_their_side(
    tokenised, make_tokenizer, prefix, suffix
) -> None:
    bytes_only = make_tokenizer(size=258)  # the alphabet and no merge: every byte is a token
    got = tokenised([{"item_id": "a", "prefix": prefix, "suffix": suffix}], with_tokenizer=bytes_only)
    assert column(got, "n_prefix_tokens") == [len(prefix.encode())]
    assert column(got, "n_tokens") == [len((prefix + suffix).encode())]
    assert column(got, "boundary_shift") == [False]


def test_a_token_with_bytes_of_both_sides_belongs_to_the_suffix(tokenised, items, vocabulary_limits) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # é is Ã ©; the one merge puts the last byte of é and the following `a` into one token.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*alphabet, "©a"])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[("©", "a")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    crossing = PreTrainedTokenizerFast(tokenizer_object=core)
    got = tokenised([{"item_id": "x", "prefix": "xé", "suffix": "ab"}], with_tokenizer=crossing)
    # x | first byte of é | last byte of é and a | b: the third crosses.
    assert column(got, "n_tokens") == [4]
    assert column(got, "n_prefix_tokens") == [2]
    assert column(got, "boundary_shift") == [True]


def test_bos_default_is_what_the_tokenizer_itself_puts_in_front(make_tokenizer) -> None:
    assert front_ids(make_tokenizer(), "default", bos_id=None) == (0,)
    assert front_ids(make_tokenizer(front=False), "default", bos_id=7) == ()
    assert front_ids(make_tokenizer(front=True, behind=True), "default", bos_id=None) == (0,)
    assert front_ids(make_tokenizer(front=False, behind=True), "default", bos_id=None) == ()


@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("behind", [True, False])
def test_nothing_stands_behind_a_text_and_bos_is_in_no_count(
    tokenised, make_tokenizer, front, behind
) -> None:
    adding = make_tokenizer(front=front, behind=behind)
    rows = [{"item_id": "a", "prefix": "The mill", "suffix": " door", "foil": "The mill bridge"}]
    got = tokenised(rows, with_tokenizer=adding)
    assert adding.decode(got.ids["a", "text"]) == "The mill door"
    assert adding.decode(got.ids["a", "foil"]) == "The mill bridge"
    assert column(got, "n_tokens") == [len(got.ids["a", "text"])]
    assert got.front_for("a", "text") == ((0,) if front else ())
    assert got.n_front == int(front)


def test_bos_none_puts_nothing_in_front(tokenised) -> None:
    got = tokenised([{"item_id": "a", "text": "The mill"}], bos="none")
    assert (got.front, got.n_front) == ((), 0)


def test_bos_forced_is_the_tokenizers_id_else_the_configurations(make_tokenizer) -> None:
    assert front_ids(make_tokenizer(front=False), "forced", bos_id=9) == (0,)
    assert front_ids(make_tokenizer(front=False, bos=False), "forced", bos_id=9) == (9,)
    assert front_ids(None, "forced", bos_id=9) == (9,)


def test_bos_forced_where_there_is_none_is_an_error(make_tokenizer) -> None:
    with pytest.raises(InputError, match=r"no BOS id to force[\s\S]*--bos default or none"):
        front_ids(make_tokenizer(front=False, bos=False), "forced", bos_id=None)


@pytest.mark.parametrize(("bos", "front"), [("default", ()), ("none", ()), ("forced", (0,))])
def test_input_ids_stand_as_given_unless_bos_is_forced(tokenised, bos, front) -> None:
    rows = [{"item_id": "ids", "input_ids": [5, 9, 3]}, {"item_id": "text", "text": "The mill"}]
    got = tokenised(rows, bos=bos)
    assert got.ids["ids", "text"].tolist() == [5, 9, 3]
    assert got.given_as_ids == {"ids"}
    assert got.front_for("ids", "text") == front
    assert got.front_for("text", "text") == (() if bos == "none" else (0,))
    assert column(got, "n_tokens")[0] == 3


def test_items_of_ids_alone_need_no_tokenizer(tokenised) -> None:
    got = tokenised([{"item_id": "a", "input_ids": [1, 2]}], with_tokenizer=None)
    assert got.front == ()
    assert got.decode is None


def test_a_foil_is_tokenised_beside_the_text_and_counted_apart(tokenised, tokenizer) -> None:
    rows = [
        {"item_id": "a", "text": "The mill door", "foil": "The mill door of the town"},
        {"item_id": "b", "text": "The bells"},
    ]
    got = tokenised(rows)
    assert tokenizer.decode(got.ids["a", "foil"]) == "The mill door of the town"
    assert column(got, "n_foil_tokens") == [len(got.ids["a", "foil"]), None]
    assert ("b", "foil") not in got.ids


def test_ids_outside_the_vocabulary_are_named_by_file_and_line(tokenised) -> None:
    rows = [
        {"item_id": "fine", "input_ids": [9]},
        {"item_id": "a", "input_ids": [10, 2]},
        {"item_id": "b", "input_ids": [3, 12]},
    ]
    with pytest.raises(ItemError) as caught:
        tokenised(rows, with_tokenizer=None, vocabulary=10)
    first, second = caught.value.problems
    assert "item a holds the id 10, the model's vocabulary has 10" in first.what
    assert first.where.endswith("items.jsonl, line 2, column input_ids")
    assert second.where.endswith("line 3, column input_ids")


@pytest.mark.parametrize("place", ["text", "foil"])
def test_a_tokenizer_larger_than_the_model_is_named_by_the_column(tokenised, place) -> None:
    rows = [{"item_id": "a", "text": "x", "foil": "x"} | {place: "The mill"}]
    largest_of_x = 90
    with pytest.raises(ItemError, match=f"line 1, column {place}"):
        tokenised(rows, vocabulary=largest_of_x)


def test_a_border_that_the_tokenizer_cannot_locate_is_an_error_and_not_another_cut(tokenised) -> None:
    from transformers import ByT5Tokenizer

    slow = ByT5Tokenizer()
    assert not slow.is_fast
    assert column(tokenised([{"item_id": "a", "text": "mill"}], with_tokenizer=slow), "n_tokens") == [4]
    with pytest.raises(ItemError, match=r"1 item with a prefix[\s\S]*line 2, column prefix"):
        tokenised([{"text": "mill"}, {"prefix": "mi", "suffix": "ll"}], with_tokenizer=slow)


def test_a_tokenizer_is_loaded_from_its_folder(tokenizer, tmp_path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again("The mill")["input_ids"] == tokenizer("The mill")["input_ids"]
    assert front_ids(again, "default", bos_id=None) == (0,)


@pytest.mark.parametrize("content", ["{", "{}", '{"model": 3}', ""])
def test_a_damaged_tokenizer_is_one_clear_error(tmp_path, content) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"the tokenizer cannot be loaded[\s\S]*--tokenizer"):
        load_tokenizer(tmp_path)


def test_many_items_keep_their_order_and_their_columns(tokenised, monkeypatch) -> None:
    from memprobe.scoring import tokenise as module

    monkeypatch.setattr(module, "_AT_ONCE", 3)
    rows = [{"item_id": f"{n}", "text": f"The bells {n}" * (1 + n % 3), "mine": n} for n in range(10)]
    rows[4] = {"item_id": "4", "input_ids": [4, 4], "mine": 4}
    got = tokenised(rows)
    assert column(got, "mine") == list(range(10))
    for row in rows:
        if "text" in row:
            assert got.decode(got.ids[row["item_id"], "text"].tolist()) == row["text"]


def test_a_text_that_several_items_have_is_encoded_once(
    tokenizer, items, vocabulary_limits, monkeypatch
) -> None:
    texts = ["The same excerpt.", "Another one.", "The same excerpt."]
    rows = [
        {"item_id": f"i{n}", "text": text, "segment_1": "T", "segment_2": f"e{n}"}
        for n, text in enumerate(texts)
    ]
    called = type(tokenizer).__call__
    seen = []

    def watched(self, given, **options):
        seen.extend(given if isinstance(given, list) else [])
        return called(self, given, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", watched)
    table = tokenise(items(rows), tokenizer, bos="none", limits=vocabulary_limits(400))
    assert sorted(seen) == sorted(set(texts))
    for n, text in enumerate(texts):
        wanted = called(tokenizer, text, add_special_tokens=False)["input_ids"]
        assert table.ids[f"i{n}", "text"].tolist() == wanted
    assert table.table["n_tokens"].to_list() == [len(table.ids[f"i{n}", "text"]) for n in range(3)]


def test_equal_texts_share_their_ids_and_others_do_not(tokenised, tokenizer) -> None:
    rows = [
        {"item_id": name, "text": text}
        for name, text in (("a", "The mill"), ("b", "bells"), ("c", "The mill"))
    ]
    got = tokenised([*rows, {"item_id": "d", "prefix": "The", "suffix": " mill"}])
    assert got.ids["a", "text"] is got.ids["c", "text"]
    for row in rows:
        wanted = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        assert got.ids[row["item_id"], "text"].tolist() == wanted
    assert got.ids["d", "text"].tolist() == got.ids["a", "text"].tolist()
    assert column(got, "n_prefix_tokens")[:3] == [None] * 3


def test_texts_are_encoded_in_batches_and_stay_in_order(tokenised, tokenizer, monkeypatch) -> None:
    rows = [{"item_id": f"i{n}", "text": f"{n} " + "bells " * (n % 5)} for n in range(30)]
    whole = tokenised(rows)
    for at_once, chars in ((7, 4_000_000), (4096, 20), (4096, 1)):
        monkeypatch.setattr("memprobe.scoring.tokenise._AT_ONCE", at_once)
        monkeypatch.setattr("memprobe.scoring.tokenise._CHARS_AT_ONCE", chars)
        got = tokenised(rows)
        assert {key: ids.tolist() for key, ids in got.ids.items()} == {
            key: ids.tolist() for key, ids in whole.ids.items()
        }
