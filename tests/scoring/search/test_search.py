"""The search for the shortest prompt: against brute force, and promise by promise.

Reference: greedy continuations of every prompt of one and two tokens of a vocabulary of 64, one batch each.
"""

import inspect
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

from memprobe.errors import CheckpointError
from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.search import allowed_ids, search_prompt
from memprobe.scoring.search.lengths import Course, miniprompt, search_lengths
from memprobe.scoring.search.objective import BudgetSpentError, Objective, Slot
from memprobe.scoring.search.optimizers import OPTIMIZERS, Best, Effects, Walks
from memprobe.scoring.search.walk import Walker
from memprobe.tables.requests import Search

VOCABULARY = 64
NONE = np.zeros(0, np.int64)
ALL = np.arange(VOCABULARY, dtype=np.int64)
# float32 sums in another order.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def loaded(loaded_from):
    return loaded_from("gpt_neox", vocab_size=VOCABULARY, salt=3)


def continued(model, prompts: np.ndarray, n_tokens: int) -> np.ndarray:
    """Return the greedy continuation of each prompt, all in one batch, without a cache."""
    ids = torch.from_numpy(prompts)
    with torch.no_grad():
        for _ in range(n_tokens):
            following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
            ids = torch.cat([ids, following[:, None]], dim=1)
    return ids[:, prompts.shape[1] :].numpy()


@pytest.fixture(scope="module")
def shortest(loaded) -> dict[tuple[int, ...], int]:
    """Targets of 3 tokens to the length of the shortest prompt that is followed by them, 1 or 2."""
    found: dict[tuple[int, ...], int] = {}
    for length in (1, 2):
        prompts = np.array(list(product(range(VOCABULARY), repeat=length)), dtype=np.int64)
        for said in continued(loaded.model, prompts, 3):
            found.setdefault(tuple(said.tolist()), length)
    return found


def objective(loaded, target, *, budget=10_000, **slot) -> Objective:
    fields = {"head": NONE, "tail": NONE, "allowed": ALL} | slot
    return Objective(loaded, Slot(np.asarray(target, np.int64), **fields), budget=budget)


def search(loaded, target, **changes):
    slot = {
        name: changes.pop(name) for name in ("head", "tail", "allowed", "warm", "survives") if name in changes
    }
    slot = {"head": NONE, "tail": NONE, "allowed": ALL} | slot
    return search_prompt(loaded, np.asarray(target, np.int64), Search(**changes), **slot)


@pytest.mark.parametrize("optimizer", ["coordinate", "gcg", "random"])
def test_the_search_finds_the_shortest_prompt_that_brute_force_finds(loaded, shortest, optimizer) -> None:
    by_length = {n: [target for target, of in shortest.items() if of == n] for n in (1, 2)}
    assert min(len(targets) for targets in by_length.values()) >= 3
    for length, targets in by_length.items():
        for target in targets[:2]:
            found = search(loaded, target, optimizer=optimizer, budget=6_000, max_prompt_tokens=4)
            assert found.prompt is not None
            assert len(found.prompt) == length
            assert found.verified
            said = continued(loaded.model, found.prompt[None], 3)[0]
            assert said.tolist() == list(target)


def test_miniprompt_finds_it_too_from_five_tokens_down(loaded, shortest) -> None:
    target = next(target for target, of in shortest.items() if of == 2)
    found = search(loaded, target, lengths="miniprompt", optimizer="gcg", budget=6_000)
    assert found.prompt_tokens_by_seed == (2,)


def test_it_works_inside_scoring_mode_and_gives_the_same_prompt_twice(loaded, shortest) -> None:
    target = next(target for target, of in shortest.items() if of == 2)
    plain = search(loaded, target, budget=3_000)
    with scoring_mode():
        again = search(loaded, target, budget=3_000)
    assert plain.prompt.tolist() == again.prompt.tolist()
    assert plain.evaluations_to_best == again.evaluations_to_best


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_the_whole_budget_is_used_and_no_more(loaded, monkeypatch, optimizer) -> None:
    seen = []
    judge = Objective._judge

    def counted(self, logits):
        seen.append(len(logits))
        return judge(self, logits)

    monkeypatch.setattr(Objective, "_judge", counted)
    monkeypatch.setattr(Objective, "says_target", lambda *_: False)
    found = search(loaded, [5, 6, 7], optimizer=optimizer, budget=777, seeds=(0, 1), max_prompt_tokens=6)
    assert found.evaluations_used == 2 * 777
    assert sum(seen) == 2 * 777


def test_a_failure_has_no_prompt_and_says_how_long_prompts_were_tried(loaded, shortest) -> None:
    """Four tokens in a row that no short prompt is followed by: nothing is imputed."""
    target = next(
        candidate for candidate in product(range(3, 9), repeat=3) if tuple(candidate) not in shortest
    )
    found = search(loaded, (*target, *target), budget=300, max_prompt_tokens=2)
    assert found.prompt is None
    assert not found.verified
    assert found.evaluations_to_best is None
    assert found.prompt_roundtrip is None
    assert found.prompt_tokens_by_seed == (None,)
    assert found.censored_at_tokens == 2


def test_the_best_of_several_seeds_counts_and_each_is_told(loaded, shortest) -> None:
    target = next(target for target, of in shortest.items() if of == 2)
    told = []
    found = search_prompt(
        loaded,
        np.asarray(target),
        Search(budget=800, seeds=(0, 1, 2)),
        head=NONE,
        tail=NONE,
        allowed=ALL,
        on_step=told.append,
    )
    lengths = [each for each in found.prompt_tokens_by_seed if each is not None]
    assert len(found.prompt_tokens_by_seed) == 3
    assert len(found.prompt) == min(lengths)
    used = [each.evaluations_used for each in told]
    assert used == sorted(used)
    assert used[-1] == found.evaluations_used
    assert told[-1].budget == 2_400


def test_a_match_in_the_batch_that_alone_is_none_is_refuted_and_counted(
    loaded, shortest, monkeypatch
) -> None:
    target = next(target for target, of in shortest.items() if of == 1)
    monkeypatch.setattr(Objective, "says_target", lambda *_: False)
    found = search(loaded, target, budget=400, max_prompt_tokens=1)
    assert found.prompt is None
    assert found.n_refuted > 0


def test_a_prompt_holds_only_what_is_allowed_and_survives(loaded, shortest) -> None:
    target = next(target for target, of in shortest.items() if of == 1)
    even = ALL[::2]
    found = search(loaded, target, allowed=even, budget=1_500)
    assert found.prompt is None or set(found.prompt.tolist()) <= set(even.tolist())
    kept = search(
        loaded, target, budget=1_500, roundtrip=True, survives=lambda prompt: bool((prompt > 9).all())
    )
    assert kept.prompt is None or (kept.prompt > 9).all()
    assert kept.prompt is None or kept.prompt_roundtrip is True
    recorded = search(loaded, target, budget=1_500, survives=lambda _: False)
    assert recorded.prompt is not None
    assert recorded.prompt_roundtrip is False


@pytest.mark.parametrize("lengths", ["bracket", "miniprompt"])
def test_a_search_in_which_nothing_survives_ends_without_a_prompt(loaded, lengths) -> None:
    found = search(
        loaded,
        [5, 6],
        lengths=lengths,
        optimizer="random",
        budget=500,
        roundtrip=True,
        survives=lambda _: False,
    )
    assert found.prompt is None
    assert found.evaluations_used == 0
    assert found.final_ce_nats is None


@pytest.mark.parametrize("lengths", ["bracket", "miniprompt"])
def test_a_warm_prompt_that_works_is_found_with_the_first_candidate(loaded, shortest, lengths) -> None:
    target = next(target for target, of in shortest.items() if of == 2)
    found = search(loaded, target, budget=3_000)
    again = search(loaded, target, budget=50, warm=found.prompt, lengths=lengths)
    assert again.prompt.tolist() == found.prompt.tolist()
    assert again.evaluations_to_best == 1


@pytest.mark.parametrize("lengths", ["bracket", "miniprompt"])
def test_a_warm_prompt_longer_than_may_be_tried_is_not_used(loaded, lengths) -> None:
    warm = np.array([20, 30, 40], dtype=np.int64)
    target = continued(loaded.model, warm[None], 3)[0]
    assert len(search(loaded, target, budget=50, warm=warm, lengths=lengths).prompt) <= 3
    found = search(loaded, target, budget=50, warm=warm, lengths=lengths, max_prompt_tokens=2)
    assert found.prompt is None or len(found.prompt) <= 2


@pytest.mark.parametrize(
    "name", ["gpt_neox", "llama", "gpt2", "mistral_sliding", "gemma2", "mamba", "minimax", "opt"]
)
def test_a_shared_prefix_is_read_once_and_changes_no_loss(loaded_from, name, monkeypatch) -> None:
    """Candidates one by one share nothing; together they share the head, and each walk's its first tokens."""
    model = loaded_from(name)
    rng = np.random.default_rng(0)
    prompts = torch.from_numpy(rng.integers(3, 97, (3, 5))).repeat_interleave(20, 0)
    prompts[:, 3] = torch.arange(20, 80)
    slot = {"head": np.array([1, 4, 8]), "tail": np.array([11, 12]), "allowed": np.arange(97)}
    alone = objective(model, [7, 9, 13, 21], **slot)
    one_by_one = torch.cat([alone.losses(prompt[None]) for prompt in prompts])
    read = 0
    forward = model.model.forward

    def counted(*args, **inputs):
        nonlocal read
        read += inputs["input_ids"].numel()
        return forward(*args, **inputs)

    counted.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(model.model, "forward", counted)
    together = objective(model, [7, 9, 13, 21], **slot)
    torch.testing.assert_close(together.losses(prompts), one_by_one, atol=TOLERANCE, rtol=0)
    # 3 tokens of head, 5 of the prompt, 2 behind it, 3 of the target: the head once, 3 tokens of each walk.
    continued = name not in ("mistral_sliding", "gemma2", "mamba", "minimax")
    assert read == (3 + 3 * 3 + 60 * 7 if continued else 60 * 13)
    assert alone.cross_entropy(prompts[2].numpy()) == pytest.approx(float(one_by_one[2]), abs=TOLERANCE)


def test_the_loss_is_the_mean_cross_entropy_of_the_target_behind_head_prompt_and_tail(loaded) -> None:
    head, prompt, tail, target = [1], [20, 30], [40], [5, 6]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([head + prompt + tail + target])).logits[0]
    ln_p = torch.log_softmax(logits.double(), -1)
    # Positions 3 and 4 predict the two target tokens at 4 and 5.
    expected = -(ln_p[3, 5] + ln_p[4, 6]) / 2
    of = objective(loaded, target, head=np.array(head), tail=np.array(tail))
    assert float(of.losses(torch.tensor([prompt]))[0]) == pytest.approx(float(expected), abs=TOLERANCE)


def test_the_gradient_is_that_of_the_one_hot_codes(loaded) -> None:
    """Central difference: the embedding of one place moved a little towards a token's."""
    of = objective(loaded, [5, 6], allowed=ALL[ALL != 33])
    _, by_embedding = of.gradient(torch.tensor([[20, 30], [21, 31]]))
    gradient = of.scores(by_embedding)[0]
    weight = loaded.model.get_input_embeddings().weight
    step, token, place = 1e-2, 17, 1

    def moved(sign: float) -> float:
        rows = weight[torch.tensor([20, 30, 5])].clone().double()
        rows[place] += sign * step * weight[token].double()
        with torch.no_grad():
            logits = loaded.model(inputs_embeds=rows.float()[None]).logits[0, 1:3].double()
        return -float(torch.log_softmax(logits, -1)[[0, 1], [5, 6]].mean())

    numeric = (moved(1) - moved(-1)) / (2 * step)
    assert float(gradient[place, token]) == pytest.approx(numeric, rel=0.02, abs=1e-3)
    assert gradient[:, 33].tolist() == [float("inf")] * 2


def test_gradients_in_parts_are_those_of_one_batch(loaded, monkeypatch) -> None:
    prompts = torch.randint(0, VOCABULARY, (7, 3))
    whole = objective(loaded, [5, 6]).gradient(prompts)
    monkeypatch.setattr("memprobe.scoring.search.objective.LOGIT_BYTES", 3 * 4 * 2 * VOCABULARY)
    of = objective(loaded, [5, 6])
    assert of._at_once == 3
    for got, expected in zip(of.gradient(prompts), whole, strict=True):
        torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)


def test_a_spent_budget_stops_and_evaluates_what_it_still_holds(loaded) -> None:
    of = objective(loaded, [5, 6], budget=3)
    assert len(of.losses(torch.randint(0, VOCABULARY, (5, 2)))) == 3
    with pytest.raises(BudgetSpentError):
        of.losses(torch.zeros(1, 2, dtype=torch.long))


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("n_walks", [1, 3])
def test_each_walk_proposes_each_prompt_once_and_one_swap_at_a_time(loaded, optimizer, n_walks) -> None:
    of = objective(loaded, [5, 6, 7])
    starts = torch.arange(20, 20 + 3 * n_walks).view(n_walks, 3)
    walks = Walks([Best(start, 1.0) for start in starts], np.random.default_rng(0), 10, 16, Effects(64))
    seen = [set() for _ in starts]
    for _ in range(12):
        proposal = OPTIMIZERS[optimizer].propose(of, walks)
        some = [proposal.candidates, *([proposal.known[0]] if proposal.known else [])]
        for prompt, walk in (
            pair for each in some for pair in zip(each.prompts, each.of.tolist(), strict=True)
        ):
            assert (prompt != starts[walk]).sum() == 1
            assert tuple(prompt.tolist()) not in seen[walk]
            seen[walk].add(tuple(prompt.tolist()))
    # 10 candidates a step, and the probes; of the three places' 16 best tokens there are 48 in all.
    assert all(40 <= len(each) <= (48 if optimizer == "gcg" else 189) for each in seen)


def test_what_stands_before_the_place_of_a_step_is_read_once_for_each_walk(loaded, monkeypatch) -> None:
    """Eight walks of 9 tokens, 32 candidates each: they part at one place, the place + 12 tokens follow."""
    of = objective(loaded, list(range(12)), budget=10**6)
    walks = Walks(
        [Best(torch.arange(start, start + 9), 1.0) for start in range(0, 40, 5)],
        np.random.default_rng(0),
        32,
        16,
        Effects(64),
    )
    read = 0
    forward = loaded.model.forward

    def counted(*args, **inputs):
        nonlocal read
        read += inputs["input_ids"].numel()
        return forward(*args, **inputs)

    counted.__signature__ = inspect.signature(forward)
    places = []
    for _ in range(9):
        candidates = OPTIMIZERS["coordinate"].propose(of, walks).candidates
        differs = candidates.prompts != walks.prompts[candidates.of]
        assert (differs.sum(1) == 1).all()
        (place,) = differs.int().argmax(1).unique().tolist()
        places.append(place)
        with monkeypatch.context() as patch:
            patch.setattr(loaded.model, "forward", counted)
            before, n = read, len(candidates.prompts)
            of.losses(candidates.prompts)
            of.take_match()
        # 9 tokens of the prompt and 11 of the target; a cache is worth its own call from the first token on.
        assert read - before == 8 * place + n * (20 - place)
    assert sorted(places) == list(range(9))


def test_walks_side_by_side_do_what_each_does_alone(loaded) -> None:
    """Proposals of a walk are ranked by its own gradient: the others in its batch change nothing."""
    of = objective(loaded, [5, 6, 7])
    starts = torch.tensor([[20, 30, 40], [3, 4, 5]])
    losses, gradient = of.gradient(starts)
    for walk in range(2):
        loss, alone = of.gradient(starts[walk : walk + 1])
        torch.testing.assert_close(losses[walk : walk + 1], loss, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(of.scores(gradient)[walk], of.scores(alone)[0], atol=TOLERANCE, rtol=0)


def test_what_was_seen_of_a_token_at_a_place_is_shrunk_towards_the_unseen() -> None:
    """Sum over (n + 1): -1 seen once gives -1/2, -1 and -2 give -3/3; elsewhere nothing is known."""
    effects = Effects(5)
    effects.learn(1, torch.tensor([2, 3]), torch.tensor([-1.0, -1.0]))
    effects.learn(1, torch.tensor([3]), torch.tensor([-2.0]))
    assert effects.expected(1).tolist() == [0.0, 0.0, -0.5, -1.0, 0.0]
    assert effects.expected(2).tolist() == [0.0] * 5
    effects.learn(2, torch.tensor([0, 1]), torch.tensor([torch.inf, torch.nan]))
    assert effects.expected(2).tolist() == [0.0] * 5


def test_tokens_that_lowered_the_loss_in_other_walks_and_at_other_lengths_come_first(loaded) -> None:
    """A token that helped by more than any gradient says is proposed at its place, and only there."""
    of = objective(loaded, [5, 6, 7])
    effects = Effects(64)
    effects.learn(1, torch.tensor([42]), torch.tensor([-1e6]))
    for start in ([20, 30], [20, 30, 40]):
        walks = Walks([Best(torch.tensor(start), 1.0)], np.random.default_rng(0), 1, 16, effects)
        for _ in start:
            proposal = OPTIMIZERS["coordinate"].propose(of, walks)
            (candidate,) = proposal.candidates.prompts
            probed = proposal.known[0].prompts
            if (candidate[:-1] == torch.tensor(start[:-1])).all():
                assert 42 in (candidate[-1], *probed[:, -1])
            else:
                assert candidate[-1] != 42


def test_starts_hold_what_lowered_the_loss_more_often_and_some_are_drawn_evenly(loaded) -> None:
    """Expected -1 and 0 have spread 1/2: exp(1 / (0.4 / 2)) = e^5 times as often as seen 0 or the unseen."""
    walker = Walker(objective(loaded, [5]), OPTIMIZERS["coordinate"], Search(), 0)
    even = walker.random_prompts(4_000, 2)
    walker._effects.learn(1, torch.tensor([42, 43]), torch.tensor([-2.0, 0.0]))
    chances = walker._effects.chances(1, walker.objective.allowed)
    assert chances[42] / chances[43] == pytest.approx(np.exp(5))
    assert walker._effects.chances(2, walker.objective.allowed) is None
    drawn = walker.random_prompts(4_000, 2)
    share = {"even": 1 / 64, "drawn": 0.25 / 64 + 0.75 * float(chances[42])}
    # Three standard deviations of a share among 4,000.
    for prompts, wanted in ((even, share["even"]), (drawn, share["drawn"])):
        margin = 3 * np.sqrt(wanted * (1 - wanted) / 4_000)
        assert float((prompts[:, 1] == 42).float().mean()) == pytest.approx(wanted, abs=margin)
        assert len(prompts[:, 0].unique()) == 64


def test_the_losses_of_a_step_are_learned_in_excess_of_the_probes(loaded) -> None:
    of = objective(loaded, [5, 6, 7])
    effects = Effects(64)
    walks = Walks([Best(torch.tensor([20]), 1.0)], np.random.default_rng(0), 2, 16, effects)
    proposal = OPTIMIZERS["coordinate"].propose(of, walks)
    probed, losses = proposal.known
    excess = losses - losses.mean()
    torch.testing.assert_close(effects.expected(1)[probed.prompts[:, 0]], excess / 2)
    proposal.learn(losses.mean() - torch.tensor([3.0, 1.0]))
    assert effects.expected(1)[proposal.candidates.prompts[:, 0]].tolist() == pytest.approx([-1.5, -0.5])
    proposal.learn(torch.zeros(0))  # the budget held none of them


def test_a_stale_walk_starts_anew_and_an_endless_one_goes_back(loaded, monkeypatch) -> None:
    """No loss is lower than another: walks are stale after their patience, 5 steps for each of 3 tokens."""
    of = objective(loaded, [5, 6, 7], budget=1_000)
    monkeypatch.setattr(of, "losses", lambda prompts: _counted(of, prompts))
    begun, back = [], []
    random_prompts, go_back = Walker.random_prompts, Walks.go_back
    monkeypatch.setattr(
        Walker, "random_prompts", lambda self, n, m: begun.append(n) or random_prompts(self, n, m)
    )
    monkeypatch.setattr(Walks, "go_back", lambda self, walk: back.append(walk) or go_back(self, walk))
    walker = Walker(of, replace(OPTIMIZERS["random"], patience=5), Search(n_candidates=2), 0)
    starts = torch.tensor([[20, 30, 40], [1, 2, 3]])
    # Two starts; then rounds of 15 steps of two walks with two candidates, and two new starts.
    walker.walk(starts, 2 + 3 * 62, n_walks=2)
    assert begun == [2, 2, 2]
    assert of.spent.evaluations == 2 + 3 * 62
    walker.walk(starts[:1], 1 + 3 * 30, endless=True)
    assert begun == [2, 2, 2]
    assert back == [0] * 3


def _counted(of, prompts) -> torch.Tensor:
    of.spent.evaluations += len(prompts)
    return torch.ones(len(prompts))


def test_as_many_walks_go_side_by_side_as_the_budget_has_room_for(loaded) -> None:
    walker = Walker(objective(loaded, [5]), OPTIMIZERS["coordinate"], Search(), 0)
    # 2 visits a token without a lower loss, two and a half times as many in all, 32 candidates each.
    assert [walker.n_walks(2, limit) for limit in (1, 320, 640, 10_000)] == [1, 1, 2, 8]
    assert walker.n_walks(4, 640) == 1


def test_miniprompt_tries_the_published_lengths(loaded, monkeypatch) -> None:
    """Success at 5, 4, 3, failure at 2: 3 it is. Failure at 5, success at 10, then down to 9, failure: 10."""

    def lengths(succeeds) -> tuple[list[int], list[int]]:
        tried, limits = [], []

        def walk(self, start, limit, *, endless):
            assert endless
            tried.append(start.shape[1])
            limits.append(limit)
            return start[0].numpy() if succeeds(start.shape[1]) else None

        monkeypatch.setattr(Walker, "walk", walk)
        walker = Walker(objective(loaded, [5, 6, 7]), OPTIMIZERS["gcg"], Search(), 0)
        miniprompt(walker, Course(), None, 15)
        return tried, limits

    assert lengths(lambda n: n >= 3)[0] == [5, 4, 3, 2]
    tried, limits = lengths(lambda n: n >= 10)
    assert tried == [5, 10, 9]
    # 200 steps of 100 candidates; a fifth more after the failure, and that stays.
    assert limits == [20_000, 24_000, 24_000]
    assert lengths(lambda _: False)[0] == [5, 10, 15]


def lengths_of_bracket(monkeypatch, of: Objective, succeeds, n_tries: int) -> list[tuple[int, bool]]:
    """Return the lengths that the bracket tries first, and whether from cuts of the shortest prompt."""
    tried: list[tuple[int, bool]] = []
    course = Course()

    def walk(self, starts, limit, *, n_walks):
        rows = {tuple(row) for row in starts.tolist()}
        shortest = () if course.prompt is None else course.prompt.tolist()
        cut = rows <= set(combinations(shortest, starts.shape[1]))
        tried.append((starts.shape[1], cut))
        if len(tried) == n_tries:
            raise BudgetSpentError
        return starts[0].numpy() if succeeds(starts.shape[1], cut) else None

    monkeypatch.setattr(Walker, "walk", walk)
    walker = Walker(of, OPTIMIZERS["coordinate"], Search(), 0)
    search_lengths("bracket", walker, course, None, 60)
    return tried


def test_the_bracket_tries_short_lengths_first_and_bisects_what_it_finds_long(loaded, monkeypatch) -> None:
    """A target of 12 tokens: the first tries go up to 18, and the likely length is 5.

    18 is found and halved from cuts: 11 holds, 7 does not, 9 and 8 do; after that 7 is next in line.
    """
    of = objective(loaded, list(range(12)), budget=20_000)
    first = [(n, False) for n in (2, 4, 5, 9, 14, 18)]
    tried = lengths_of_bracket(monkeypatch, of, lambda n, cut: n == 18 or (cut and n >= 8), 11)
    assert tried == [*first, *((n, True) for n in (11, 7, 9, 8, 7))]
    # Nothing shorter holds: each half moves up. After that the shortening has its turn.
    tried = lengths_of_bracket(monkeypatch, of, lambda n, _: n == 14, 10)
    assert tried == [*first[:5], *((n, True) for n in (9, 11, 12, 13, 13))]
    # Found next to the likely length there is nothing to halve.
    tried = lengths_of_bracket(monkeypatch, of, lambda n, _: n >= 5, 4)
    assert tried == [*first[:3], (4, True)]
    # Found nowhere, the lengths come round again.
    assert lengths_of_bracket(monkeypatch, of, lambda *_: False, 8) == [*first, *first[:2]]


def test_cuts_lack_tokens_of_a_prompt_all_where_they_are_few_and_some_where_they_are_many(loaded) -> None:
    walker = Walker(objective(loaded, [5]), OPTIMIZERS["coordinate"], Search(), 0)
    prompt = np.arange(20, 40)
    for n_tokens, kept in ((20, 19), (5, 4), (5, 3), (2, 1)):
        cuts = walker.cuts(prompt[:n_tokens], kept).tolist()
        assert [tuple(cut) for cut in cuts] == list(combinations(range(20, 20 + n_tokens), kept))
    cuts = walker.cuts(prompt, 12)
    assert 12 <= len(cuts.unique(dim=0)) == len(cuts) <= 16
    assert (cuts.diff() > 0).all()
    assert not torch.equal(cuts, walker.cuts(prompt, 12))


def test_starts_are_random_prompts_and_some_of_the_targets_own_tokens(loaded) -> None:
    """Cuts of the target where they are shorter, else the target behind its own end; only what is allowed."""
    target = [40, 41, 33, 42, 43, 44, 45, 46]
    own = [each for each in target if each != 33]

    def starts(n_tokens: int, allowed=ALL[ALL != 33]) -> list[list[int]]:
        of = objective(loaded, target, allowed=allowed)
        drawn = Walker(of, OPTIMIZERS["coordinate"], Search(), 0).starts(3, n_tokens).tolist()
        assert all(len(prompt) == n_tokens and set(prompt) <= set(allowed.tolist()) for prompt in drawn)
        return drawn[3:]

    for n_tokens in (1, 4, 6):
        made = {tuple(prompt) for prompt in starts(n_tokens)}
        assert len(made) == 4
        assert made <= set(combinations(own, n_tokens))
    assert starts(7) == [own]
    assert starts(9) == [[45, 46, *own]]
    assert starts(16) == [[45, 46, *own, *own]]
    assert starts(4, ALL[:30]) == []


def test_the_bracket_also_starts_from_the_targets_own_tokens_and_miniprompt_does_not(
    loaded, monkeypatch
) -> None:
    """Cuts of the target among the short starts, the target behind its own end among the long ones."""
    target = np.arange(20, 32)
    copied = [30, 31, *target.tolist()]
    seen = {}
    for lengths in ("bracket", "miniprompt"):
        walker = Walker(objective(loaded, target), OPTIMIZERS["coordinate"], Search(), 0)

        def walk(self, starts, limit, name=lengths, **_):
            seen.setdefault(name, []).extend(starts.tolist())
            if copied in starts.tolist() or len(seen[name]) > 1_000:
                raise BudgetSpentError

        monkeypatch.setattr(Walker, "walk", walk)
        search_lengths(lengths, walker, Course(), None, 60)
    assert copied in seen["bracket"]
    assert any(set(prompt) <= set(target.tolist()) for prompt in seen["bracket"] if len(prompt) == 5)
    # As published: a random prompt at each length from 5 on.
    assert [len(prompt) for prompt in seen["miniprompt"]] == list(range(5, 61, 5))
    assert not any(set(prompt) <= set(target.tolist()) for prompt in seen["miniprompt"])


def test_special_ids_and_ids_outside_the_tokenizer_or_the_model_are_not_allowed(tokenizer) -> None:
    allowed = allowed_ids(tokenizer, 10_000)
    assert not set(tokenizer.all_special_ids) & set(allowed.tolist())
    assert allowed.max() < len(tokenizer)
    assert allowed_ids(tokenizer, 50).max() < 50
    assert allowed_ids(None, 7).tolist() == list(range(7))


def test_a_model_without_input_embeddings_is_refused_in_a_sentence(loaded, monkeypatch) -> None:
    monkeypatch.setattr(type(loaded.model), "get_input_embeddings", lambda _: None)
    with pytest.raises(CheckpointError, match="no input embeddings"):
        search(loaded, [5, 6], budget=5)


def test_an_empty_target_is_refused(loaded) -> None:
    with pytest.raises(ValueError, match="needs a target"):
        search(loaded, [], budget=5)
