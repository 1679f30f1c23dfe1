"""The end of a round: standing, attendance, beacon, seed, and #0 (R6, R9, H2)."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import pytest

from ledger.keys import digest
from ledger.settlement import get_absent, get_reveals, get_scorers, make_genesis
from ledger.state import ABSENT, ACTIVE, Member
from ledger.transition import apply
from ledger.types import NO_LINK, EmptyBody, ModelBody, body_root
from tests.ledger.helpers_ledger import FAILING, ChainBuilder, make_document, play


def member_of(builder: ChainBuilder, key: bytes) -> Member:
    member = builder.state.member(key)
    assert member is not None
    return member


def statuses(builder: ChainBuilder, keys: Iterable[bytes]) -> set[int]:
    return {member_of(builder, key).status for key in keys}


# ------------------------------------------------------------------------------------------------ standing (R9)


def test_standing_counts_accepted_less_rejected() -> None:
    builder = ChainBuilder(n=7, c=2, k=6)
    accepted, rejected, silent = builder.trainers[:2], builder.trainers[2:4], builder.trainers[4:]
    builder.full_round(accept=accepted, reject=rejected)
    assert {member_of(builder, key).standing for key in accepted} == {1}
    assert {member_of(builder, key).standing for key in rejected} == {-1}
    assert {member_of(builder, key).standing for key in silent} == {0}
    assert sum(member.accepted for member in builder.state.members) == 2


def test_an_undecided_offer_is_not_held_against_its_trainer() -> None:
    # R4: unused, unpunished
    builder = ChainBuilder(n=5, c=1, k=5)
    listed = [builder.unfilled(trainer, builder.offer(trainer)) for trainer in builder.trainers]
    builder.append(builder.close_body(listed), *[EmptyBody(())] * 3)
    builder.append(builder.model_body())
    assert {(member.standing, member.missed, member.status) for member in builder.state.members} == {(0, 0, ACTIVE)}


# ---------------------------------------------------------------------------------------------- attendance (R6)


def test_a_trainer_listed_with_none_was_absent() -> None:
    builder = ChainBuilder(n=5, c=1, k=5)
    silent = builder.trainers[1]
    builder.append(*builder.fill_slots(silent=[silent]))
    assert get_absent(builder.state) == {silent}


def test_a_committee_member_without_a_score_where_anothers_is_listed_was_absent() -> None:
    builder = ChainBuilder(n=8, c=4, k=5)
    asleep = builder.committee[2]
    awake = [scorer for scorer in builder.committee if scorer != asleep]
    bodies = []
    for trainer in builder.trainers:
        offer = builder.offer(trainer)
        bodies.append(builder.update_body(offer, builder.scores(offer, scorers=awake)))
    builder.append(*bodies)
    assert get_scorers(builder.state) == set(awake)
    assert get_absent(builder.state) == {asleep}
    builder.append(builder.model_body())
    assert member_of(builder, asleep).missed == 1
    assert {member_of(builder, key).missed for key in awake} == {0}


def test_one_late_score_is_attendance_enough() -> None:
    builder = ChainBuilder(n=8, c=4, k=5)
    slow = builder.committee[1]
    awake = [scorer for scorer in builder.committee if scorer != slow]
    offers = [builder.offer(trainer) for trainer in builder.trainers]
    builder.append(*(builder.update_body(offer, builder.scores(offer, scorers=awake)) for offer in offers))
    assert get_absent(builder.state) == {slow}
    builder.append(builder.model_body(late=(builder.score(offers[0], slow),)))
    assert member_of(builder, slow).missed == 0


def test_scores_in_the_close_are_attendance_too() -> None:
    builder = ChainBuilder(n=8, c=3, k=5)
    scorer = builder.committee[0]
    first = builder.offer(builder.trainers[0])
    items = [builder.unfilled(first.trainer, first, [builder.score(first, scorer, FAILING)])]
    items += [builder.unfilled(trainer) for trainer in builder.trainers[1:]]
    builder.append(builder.close_body(items), *[EmptyBody(())] * 3)
    assert get_scorers(builder.state) == {scorer}
    assert get_absent(builder.state) == {*builder.committee[1:], *builder.trainers[1:]}


def test_where_nobody_has_a_score_listed_the_committee_is_not_absent() -> None:
    # a round without offers says nothing about those who would have scored them
    builder = ChainBuilder(n=8, c=3, k=5)
    seats = builder.committee
    builder.append(*builder.fill_slots(accept=[]))
    assert get_absent(builder.state) == set(builder.trainers)
    builder.append(builder.model_body())
    assert {member_of(builder, key).missed for key in seats} == {0}


def test_after_three_absences_in_a_row_a_member_is_absent_and_no_longer_drawn() -> None:
    builder = ChainBuilder(n=4, c=1, k=4)
    lazy = builder.trainers[0]
    missed = []
    while member_of(builder, lazy).status == ACTIVE:
        if lazy in builder.trainers:
            builder.full_round(silent=[lazy])
        else:
            builder.full_round(accept=[])  # it sits: with no offer to score it is not due
        missed.append(member_of(builder, lazy).missed)
    assert sorted(missed) == missed
    assert set(missed) == {1, 2, 3}
    for _ in range(2):
        assert lazy not in builder.trainers
        assert lazy not in builder.committee
        builder.full_round()
    assert member_of(builder, lazy).status == ABSENT


def test_coming_back_in_time_starts_the_count_again() -> None:
    builder = ChainBuilder(n=3, c=1, k=3, absent_after=2)
    trainer = builder.trainers[0]
    builder.full_round(silent=[trainer])
    assert member_of(builder, trainer).missed == 1
    builder.full_round()
    assert (member_of(builder, trainer).missed, member_of(builder, trainer).status) == (0, ACTIVE)


def test_who_was_not_due_misses_nothing() -> None:
    builder = ChainBuilder(n=9, c=2, k=3)
    idle = [key for key in builder.indices if key not in (*builder.trainers, *builder.committee)]
    assert idle
    builder.full_round(accept=[])
    assert {member_of(builder, key).missed for key in idle} == {0}


def test_a_present_makes_an_absent_member_active_again() -> None:
    builder = ChainBuilder(n=5, c=1, k=5, absent_after=1)
    away = builder.trainers[:2]
    builder.full_round(silent=away)
    assert statuses(builder, away) == {ABSENT}
    builder.full_round(present=away[:1])
    back = member_of(builder, away[0])
    assert (back.status, back.missed) == (ACTIVE, 0)
    assert member_of(builder, away[1]).status == ABSENT
    assert away[0] in (*builder.trainers, *builder.committee)


def test_an_absent_member_on_a_filled_up_committee_stays_absent_until_it_says_so() -> None:
    builder = ChainBuilder(n=3, c=1, k=3, absent_after=1)
    builder.full_round(silent=builder.trainers)
    assert builder.trainers != ()  # the old committee is all that is left active
    seated = builder.committee[0]
    assert member_of(builder, seated).status == ABSENT
    builder.full_round()
    assert member_of(builder, seated).status == ABSENT
    assert member_of(builder, seated).missed == 0


# -------------------------------------------------------------------------------------------- beacon, seed (R9)


def test_the_reveals_are_the_links_of_all_listed_offers() -> None:
    builder = ChainBuilder(n=8, c=3, k=5)
    accepted, rejected, *silent = builder.trainers
    builder.append(*builder.fill_slots(accept=[accepted], reject=[rejected]))
    assert get_reveals(builder.state) == {key: builder.reveal(key, 0) for key in (accepted, rejected)}
    assert not set(silent) & set(get_reveals(builder.state))


def test_who_revealed_a_link_has_it_on_chain_and_the_others_keep_theirs() -> None:
    builder = ChainBuilder(n=8, c=3, k=5)
    links = builder.params.beacon_links
    revealed, *silent = builder.trainers
    tip = member_of(builder, silent[0]).beacon_link
    builder.full_round(accept=[revealed])
    member = member_of(builder, revealed)
    assert (member.beacon_link, member.beacon_index) == (builder.reveal(revealed, 0), links - 1)
    other = member_of(builder, silent[0])
    assert (other.beacon_link, other.beacon_index) == (tip, links)


def test_a_member_that_skipped_rounds_can_still_reveal() -> None:
    # R9: the link of its round leads over the skipped ones to the last one on chain
    builder = ChainBuilder(n=3, c=1, k=3, absent_after=9)
    quiet = builder.trainers[0]
    while not (quiet in builder.trainers and builder.state.round.round >= 4):
        builder.full_round(silent=[key for key in builder.trainers if key == quiet])
    builder.full_round()
    assert member_of(builder, quiet).beacon_index <= builder.params.beacon_links - 5


def test_the_seed_follows_the_links_in_order_of_member_key() -> None:
    builder = ChainBuilder(n=8, c=3, k=5)
    seed = builder.state.round.seed
    trainers = builder.trainers
    builder.full_round(accept=trainers[2:0:-1], reject=trainers[:1])
    links = b"".join(builder.reveal(key, 0) for key in sorted(trainers[:3]))
    assert builder.state.round.seed == hashlib.sha256(b"fedchain/1/seed\x00" + seed + links).digest()


def test_score_election_seats_the_best_updates_of_the_round() -> None:
    builder = ChainBuilder(n=9, c=2, k=6, election="score")
    ranked = sorted(builder.trainers, key=lambda key: -builder.indices[key])  # samples rise with the index
    builder.full_round()
    assert list(builder.committee) == ranked[:2]


# ------------------------------------------------------------------------------------------------ genesis (H2)


def test_block_zero_is_a_model_block_that_names_the_initial_model() -> None:
    genesis = make_document(n=5, committee_size=2)
    block, state = make_genesis(genesis)
    assert isinstance(block.body, ModelBody)
    assert block.body == ModelBody(genesis.initial_model, (), (), ())
    header = block.header
    assert (header.height, header.round, header.time_ms) == (0, 0, genesis.time_ms)
    assert (header.chain, header.parent) == (genesis.chain_id, digest("genesis-parent"))
    assert header.body_root == body_root(block.body)
    assert header.state_root == state.root()
    assert header.proposer == min(member.member_key for member in genesis.members)
    assert (state.height, state.last_hash, state.time_ms) == (0, header.id(), genesis.time_ms)


def test_round_zero_is_open_after_genesis() -> None:
    _, state = make_genesis(make_document(n=6, committee_size=2))
    opened = state.round
    assert (opened.round, opened.closed, len(opened.committee)) == (0, 0, 2)
    assert opened.trainers == tuple(sorted(opened.trainers))
    assert not set(opened.trainers) & set(opened.committee)
    assert (state.updates, state.listed) == ((), ())


@pytest.mark.parametrize("election", ["draw", "score"])
def test_the_first_committee_is_drawn_under_every_policy(election: str) -> None:
    builder = ChainBuilder(n=6, c=2, election=election)
    assert len(builder.committee) == 2


def test_the_same_document_founds_the_same_chain() -> None:
    assert make_genesis(make_document()) == make_genesis(make_document())
    assert make_genesis(make_document())[0] != make_genesis(make_document(grace_ms=5))[0]


def test_settling_depends_on_the_state_alone() -> None:
    # S1: the model block applied to the decoded state gives the very same state
    builder = play(ChainBuilder(n=7, c=2, k=4), 1)
    builder.append(*builder.fill_slots(reject=builder.trainers[:1]))
    (block,), after = builder.blocks(builder.model_body())
    again = type(after).decode(builder.state.encode())
    assert apply(builder.params, again, block) == after
    assert replace(after, height=0).root() == after.root()
    assert NO_LINK not in get_reveals(builder.state).values()


def test_a_missing_update_earns_neither_a_seat_nor_standing() -> None:
    # R7, R9: scorers who collude could otherwise seat a trainer that withheld its update
    builder = ChainBuilder(n=8, c=2, k=7, election="score", weight="samples")
    trainers = builder.trainers
    offers = [builder.offer(trainer, samples=10 + at) for at, trainer in enumerate(trainers)]
    builder.append(*(builder.update_body(offer) for offer in offers))
    heaviest = builder.state.updates[-1]
    builder.append(builder.model_body(missing=(heaviest.height,)))
    assert heaviest.trainer == trainers[-1]
    assert heaviest.trainer not in builder.committee
    assert set(builder.committee) == {trainers[-2], trainers[-3]}
    assert member_of(builder, heaviest.trainer).standing == 0
    assert member_of(builder, trainers[-2]).standing == 1
    assert member_of(builder, heaviest.trainer).beacon_index < builder.params.beacon_links, "its reveal still counts"
