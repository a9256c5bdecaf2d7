from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.kommo.client import ClientType
from itgrix_kommo.kommo.listings import USE_NOTED_EVERY, Client, Listing, Listings, OpenLead
from itgrix_kommo.kommo.webhooks import Change, ClientGone, ClientTold, LeadGone, LeadTold

NOW = 1_760_000_000.0
ONE, TWO = "+12025550143", "+12025550144"
NAME_ONE, NAME_TWO = "2025550143", "2025550144"
LEAD = OpenLead(6601, "L", 7001, 70011, 9100001)
ANN = Client("contacts", 5501, "Ann", 9100001, (ONE,), (LEAD,))
BOB = Client("contacts", 5502, "Bob", 9100002, (TWO,), ())
ACME = Client("companies", 5601, "Acme", 9100003, (ONE,), ())


def told(client: Client, *phones: str) -> ClientTold:
    return ClientTold(client.type, client.id, client.name, client.responsible_id, phones)


@pytest.fixture
def listings() -> Listings:
    listings = Listings(10)
    listings.put(Listing(NAME_ONE, (ANN,), NOW), NOW)
    listings.put(Listing(NAME_TWO, (BOB,), NOW), NOW)
    listings.unsaved.clear()
    return listings


def clients(listings: Listings, name: str) -> tuple[Client, ...]:
    return listings[name][0].clients if name in listings else ()


class TestTold:
    def test_another_name_and_responsible(self, listings: Listings) -> None:
        listings.apply(told(replace(ANN, name="Anna", responsible_id=7), ONE), None)
        assert clients(listings, NAME_ONE) == (replace(ANN, name="Anna", responsible_id=7),)
        assert listings.unsaved == {NAME_ONE}

    def test_a_phone_taken_away_must_be_looked_up_anew(self, listings: Listings) -> None:
        listings.apply(told(ANN, "+12025550199"), None)
        assert NAME_ONE not in listings
        assert "2025550199" not in listings  # who else has it nobody has asked
        assert listings.unsaved == {NAME_ONE}

    def test_a_phone_of_another_added(self, listings: Listings) -> None:
        listings.apply(told(ANN, ONE, TWO), None)
        assert [one.ref for one in clients(listings, NAME_TWO)] == [ANN.ref, BOB.ref]
        assert clients(listings, NAME_TWO)[0].leads == (LEAD,)

    def test_a_stranger_with_a_known_phone(self, listings: Listings) -> None:
        listings.apply(told(Client("contacts", 5509, "Eve", 0, ()), ONE, "+12025550199"), None)
        assert [one.id for one in clients(listings, NAME_ONE)] == [5501, 5509]
        assert clients(listings, NAME_ONE)[1].leads is None

    def test_a_company_yields_to_contacts(self, listings: Listings) -> None:
        listings.apply(told(ACME, ONE), None)
        assert clients(listings, NAME_ONE) == (ANN,)
        listings.put(Listing(NAME_ONE, (ACME,), NOW), NOW)
        listings.apply(told(ANN, ONE), None)
        assert [one.ref for one in clients(listings, NAME_ONE)] == [ANN.ref]

    def test_national_numbers_by_the_country(self, listings: Listings) -> None:
        kari = Client("contacts", 5503, "Kari", 0, ("+4722334455",), ())
        listings.put(Listing("+4722334455", (kari,), NOW), NOW)
        listings.apply(told(kari, "22 33 44 55"), "NO")
        assert [one.phones for one in clients(listings, "+4722334455")] == [("22 33 44 55",)]

    def test_the_gone(self, listings: Listings) -> None:
        listings.apply(ClientGone("contacts", 5501), None)
        listings.apply(ClientGone("companies", 5502), None)
        assert (NAME_ONE in listings, NAME_TWO in listings) == (False, True)


class TestLeads:
    def test_one_that_changed(self, listings: Listings) -> None:
        listings.apply(LeadTold(6601, "New", 7001, 70012, 5), None)
        assert clients(listings, NAME_ONE)[0].leads == (OpenLead(6601, "New", 7001, 70012, 5),)

    @pytest.mark.parametrize(
        "change", [LeadTold(6601, "L", 7001, 142, 1), LeadTold(6601, "L", 7001, 143, 1), LeadGone(6601)]
    )
    def test_one_that_is_open_no_more(self, listings: Listings, change: Change) -> None:
        listings.apply(change, None)
        assert clients(listings, NAME_ONE)[0].leads == ()

    def test_whose_a_new_one_is_nobody_tells(self, listings: Listings) -> None:
        listings.apply(LeadTold(6609, "L", 7001, 70011, 1), None)
        assert listings.unsaved == set()

    def test_one_of_our_own(self, listings: Listings) -> None:
        listings.add_lead(BOB.ref, LEAD)
        listings.add_lead(BOB.ref, replace(LEAD, name="again"))
        assert clients(listings, NAME_TWO)[0].leads == (replace(LEAD, name="again"),)
        listings.apply(LeadGone(6601), None)
        assert [clients(listings, name)[0].leads for name in (NAME_ONE, NAME_TWO)] == [(), ()]
        listings.add_lead(("contacts", 1), LEAD)

    def test_a_lead_with_the_number_of_a_client_is_not_his(self, listings: Listings) -> None:
        listings.add_lead(("leads", 6601), replace(LEAD, id=6605))
        assert clients(listings, NAME_ONE) == (ANN,)


class TestUse:
    def test_it_is_noted_once_in_an_hour(self, listings: Listings) -> None:
        assert listings.use(NAME_ONE, NOW + USE_NOTED_EVERY - 1) is not None
        assert listings.unsaved == set()
        listings.use(NAME_ONE, NOW + USE_NOTED_EVERY)
        assert listings.unsaved == {NAME_ONE}
        assert listings[NAME_ONE][1] == NOW + USE_NOTED_EVERY
        assert listings.use("1", NOW) is None

    def test_what_is_not_there_is_not_dropped(self, listings: Listings) -> None:
        listings.drop("1")
        assert listings.unsaved == set()


_NAMES = st.integers(0, 4).map(lambda number: f"202555000{number}")
_TYPES: st.SearchStrategy[ClientType] = st.sampled_from(("contacts", "companies"))
_REFS = st.tuples(_TYPES, st.integers(1, 4))
_LEADS = st.sets(st.integers(1, 4), max_size=3).map(
    lambda numbers: tuple(replace(LEAD, id=number) for number in sorted(numbers))
)
_CLIENTS = st.builds(
    Client, _TYPES, st.integers(1, 4), st.just(""), st.just(0), st.lists(_NAMES, max_size=3).map(tuple), _LEADS
)
_CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda client: told(client, *client.phones), _CLIENTS),
    st.builds(lambda ref: ClientGone(*ref), _REFS),
    st.builds(lambda number, status: LeadTold(number, "", 1, status, 0), st.integers(1, 4), st.sampled_from((142, 7))),
    st.builds(LeadGone, st.integers(1, 4)),
)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), _NAMES, _CLIENTS),
            st.tuples(st.just("enter"), _CLIENTS),
            st.tuples(st.just("drop"), _NAMES),
            st.tuples(st.just("use"), _NAMES),
            st.tuples(st.just("apply"), _CHANGES),
            st.tuples(st.just("lead"), _REFS, _LEADS),
        ),
        max_size=40,
    )
)
def test_the_ways_back_from_clients_and_leads_are_never_lost(deeds: list[tuple[object, ...]]) -> None:
    listings = Listings(4)
    for deed in deeds:
        match deed:
            case ("add", str(name), Client() as client):
                listings.add(name, client, NOW)
            case ("enter", Client() as client):
                listings.enter(client, None, NOW)
            case ("drop", str(name)):
                listings.drop(name)
            case ("use", str(name)):
                listings.use(name, NOW)
            case ("apply", ClientTold() | ClientGone() | LeadTold() | LeadGone() as change):
                listings.apply(change, None)
            case ("lead", ref, leads):
                for lead in leads:  # type: ignore[attr-defined]  # as drawn above
                    listings.add_lead(ref, lead)  # type: ignore[arg-type]  # as drawn above
        _consistent(listings)


def _consistent(listings: Listings) -> None:
    ways: dict[tuple[str, int], set[str]] = {}
    assert len(listings) <= 4
    for name, listing in listings._listings.items():
        assert listing.phone == name
        assert len({one.type for one in listing.clients}) == 1
        assert [one.id for one in listing.clients] == sorted({one.id for one in listing.clients})
        for client in listing.clients:
            for ref in (client.ref, *(("leads", lead.id) for lead in client.leads or ())):
                ways.setdefault(ref, set()).add(name)
    assert dict(listings._phones_of) == ways
    assert listings._used_at.keys() == listings._listings.keys()
