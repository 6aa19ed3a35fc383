//! Who may propose from outside: the room's hub, whatever a Commit would make of that. And whom a Commit may bring in.

use super::super::fixture::{
    AUDITED, Client, HUB_KEY, SUITE, World, encoded, hub_with, now, senders_of,
};
use crate::mls::{
    check::{
        bundle::{BundleRefused, Terms, check_bundle},
        hub_senders::HubSenders,
        proposal::{ProposalRefused, check_proposal},
    },
    tree::cache::TreeCache,
};
use openmls::prelude::{Extension, Extensions, GroupContext};
use std::collections::BTreeSet;

const NEW_KEY: [u8; 32] = [8; 32];
const HUB: &str = "mimi://a.example";

fn only(extension: Extension) -> Extensions<GroupContext> {
    Extensions::from_vec(vec![extension]).unwrap()
}

/// What the hub with these keys says to a Commit that changes the extensions of a group which lists `HUB_KEY`.
fn said(keys: Vec<[u8; 32]>, next: Extensions<GroupContext>) -> Result<(), BundleRefused> {
    let mut world = World::of(2);
    let bundle =
        world.clients[1].commit(|builder| builder.propose_group_context_extensions(next).unwrap());
    let terms = Terms {
        hub: hub_with(keys),
        ..AUDITED.clone()
    };
    let sender = &world.clients[1].uri;
    check_bundle(&world.view, &[], &bundle, sender, now(), &terms).map(drop)
}

fn invalid(reason: &'static str) -> Result<(), BundleRefused> {
    Err(BundleRefused::InvalidProposals {
        references: Vec::new(),
        reason,
    })
}

#[test]
fn a_room_goes_over_to_a_newer_key_of_its_hub_and_may_list_both() {
    let both = || vec![NEW_KEY, HUB_KEY];
    for list in [
        vec![(HUB, NEW_KEY)],
        vec![(HUB, NEW_KEY), (HUB, HUB_KEY)],
        vec![(HUB, HUB_KEY)],
    ] {
        assert_eq!(said(both(), only(senders_of(&list))), Ok(()));
    }
    // What is as it was is nobody's to judge, also once the hub has given that key up.
    assert_eq!(
        said(vec![NEW_KEY], only(senders_of(&[(HUB, HUB_KEY)]))),
        Ok(())
    );
}

#[test]
fn the_hub_stays_in_a_room_under_its_own_name_and_nobody_else_comes() {
    let out = invalid("external_senders is left without the room's hub");
    let foreign = invalid("external_senders gets a sender that is not the room's hub");
    for (list, expected) in [
        (vec![], &out),
        (vec![(HUB, NEW_KEY)], &foreign),
        (vec![("mimi://m.example", HUB_KEY)], &foreign),
        (
            vec![(HUB, HUB_KEY), ("mimi://m.example", NEW_KEY)],
            &foreign,
        ),
    ] {
        let told = said(vec![HUB_KEY], only(senders_of(&list)));
        assert_eq!(&told, expected, "{list:?}");
    }
    assert_eq!(said(vec![HUB_KEY], Extensions::empty()), out);
}

#[test]
fn a_proposal_that_would_put_the_hub_out_does_not_wait() {
    let mut world = World::of(2);
    let client = &mut world.clients[1];
    let group = client.group.as_mut().unwrap();
    let (message, _) = group
        .propose_group_context_extensions(&client.provider, Extensions::empty(), &client.signer)
        .unwrap();
    let uri = client.uri.clone();
    let (bytes, hub) = (encoded(&message), hub_with(vec![HUB_KEY]));
    let refused = check_proposal(&world.view, &bytes, &uri, now(), &TreeCache::none(), &hub);
    let reason = "external_senders is left without the room's hub";
    assert_eq!(refused, Err(ProposalRefused::Invalid(reason)));
}

#[test]
fn what_a_joiner_gets_is_signed_with_a_key_that_its_room_lists() {
    let listed = |keys: &[[u8; 32]]| -> Vec<bytes::Bytes> {
        let bytes = |key: &[u8; 32]| bytes::Bytes::copy_from_slice(key);
        keys.iter().map(bytes).collect()
    };
    let hub = hub_with(vec![NEW_KEY, HUB_KEY]);
    let of = |keys: &[[u8; 32]]| hub.signing_key(&listed(keys)).copied();
    assert_eq!(of(&[HUB_KEY]), Some(HUB_KEY));
    assert_eq!(of(&[HUB_KEY, NEW_KEY]), Some(NEW_KEY));
    assert_eq!(of(&[[9; 32]]), Some(NEW_KEY));
    assert_eq!(HubSenders::NONE.signing_key(&listed(&[HUB_KEY])), None);
}

#[test]
fn a_commit_that_brings_in_a_client_of_a_provider_without_a_link_names_that_provider() {
    let mut world = World::of(2);
    world.clients.push(Client::new("new", SUITE));
    let bundle = world.bundle(0, &[2], &[], true);
    let sender = world.clients[0].uri.clone();
    let among = |listed: &str| {
        let terms = Terms {
            providers: Some(BTreeSet::from([listed.parse().unwrap()])),
            ..AUDITED.clone()
        };
        check_bundle(&world.view, &[], &bundle, &sender, now(), &terms).map(drop)
    };
    let own = sender.provider().clone();
    assert_eq!(among("b.example"), Err(BundleRefused::NoLink(own)));
    assert_eq!(among("a.example"), Ok(()));
    // One that changes nobody is taken from members of whatever provider.
    let terms = Terms {
        providers: Some(BTreeSet::new()),
        ..AUDITED.clone()
    };
    let update = World::bundle(&mut world, 1, &[], &[], true);
    let uri = &world.clients[1].uri;
    assert!(check_bundle(&world.view, &[], &update, uri, now(), &terms).is_ok());
}
