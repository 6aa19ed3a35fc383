//! Extensions that RFC 9420 allows and OpenMLS does not: GREASE of section 13.5, and those of a GroupContext.

use super::*;
use mls_rs::Extension;

/// Numbers that mean nothing, for each kind of list.
const GREASE: [u16; 2] = [0x1a1a, 0xeaea];
/// A number for private use.
const PRIVATE: u16 = 0xf0f1;

fn list(kinds: &[u16]) -> ExtensionList {
    let mut list = ExtensionList::new();
    for kind in kinds {
        list.set(Extension::new(ExtensionType::new(*kind), vec![7; 9]));
    }
    list
}

/// A client that greases: its capabilities, its leaf, and the KeyPackage around it, where it is listed and where not.
fn greasy(user: &str) -> Client<impl MlsConfig> {
    client_with(user, &[GREASE[0]], &[0x2a2a])
}

fn key_package<C: MlsConfig>(client: &Client<C>, around: &[u16], leaf: &[u16]) -> MlsMessage {
    client
        .generate_key_package_message(list(around), list(leaf), None)
        .unwrap()
}

#[test]
fn a_client_that_greases_founds_a_room_is_added_commits_and_is_removed() {
    let (extensions, senders) = with_hub();
    let (alice, bob, carol) = (greasy("alice"), greasy("bob"), client("carol"));
    let leaf = || list(&GREASE[..1]);
    let mut at_alice = alice
        .create_group_with_id(b"den".to_vec(), extensions, leaf(), None)
        .unwrap();
    let mut hub = Hub::of(&at_alice, &senders, "alice");
    assert_eq!(
        hub.terms.objections.count(),
        1,
        "OpenMLS takes no leaf with GREASE"
    );
    let greased = key_package(&bob, &GREASE, &GREASE[..1]);
    let facts = check_key_package(&bytes(&greased), &uri("bob"), now(), &hub.terms).unwrap();
    assert!(!facts.extensions.contains(&GREASE[0]));
    let plain = key_package(&carol, &[], &[]);
    let added = at_alice
        .commit_builder()
        .add_member(greased)
        .unwrap()
        .add_member(plain)
        .unwrap()
        .build()
        .unwrap();
    hub.take(&[], &added, "alice");
    at_alice.apply_pending_commit().unwrap();
    let join = |client: &Client<_>| {
        let tree = added.ratchet_tree.clone();
        client.join_group(tree, &added.welcome_messages[0], None)
    };
    let (mut at_bob, _) = join(&bob).unwrap();
    let tree = added.ratchet_tree.clone();
    let (mut at_carol, _) = carol
        .join_group(tree, &added.welcome_messages[0], None)
        .unwrap();
    let updated = at_bob.commit_builder().build().unwrap();
    hub.take(&[], &updated, "bob");
    at_bob.apply_pending_commit().unwrap();
    follow(&mut at_alice, &updated);
    follow(&mut at_carol, &updated);
    let removing = at_carol.commit_builder().remove_member(1).unwrap();
    let removing = removing.build().unwrap();
    let checked = hub.take(&[], &removing, "carol");
    assert_eq!(checked.left[0].client, uri("bob"));
    at_carol.apply_pending_commit().unwrap();
    follow(&mut at_alice, &removing);
    assert_eq!(hub.view.epoch().unwrap(), at_alice.current_epoch());
}

#[test]
fn openmls_is_not_asked_again_until_what_it_refuses_may_be_gone() {
    let (extensions, senders) = with_hub();
    let (alice, bob) = (client("alice"), greasy("bob"));
    let mut at_alice = alice
        .create_group_with_id(b"den".to_vec(), extensions, list(&[]), None)
        .unwrap();
    let mut hub = Hub::of(&at_alice, &senders, "alice");
    let package = key_package(&bob, &[], &GREASE[..1]);
    let mut audited = Vec::new();
    let mut commit = |at_alice: &mut Group<_>, output: CommitOutput| {
        let checked = hub.take(&[], &output, "alice");
        at_alice.apply_pending_commit().unwrap();
        audited.push((checked.audited, hub.terms.objections.count()));
    };
    let adding = at_alice.commit_builder().add_member(package).unwrap();
    let adding = adding.build().unwrap();
    commit(&mut at_alice, adding);
    for _ in 0..2 {
        let updating = at_alice.commit_builder().build().unwrap();
        commit(&mut at_alice, updating);
    }
    let removing = at_alice.commit_builder().remove_member(1).unwrap();
    let removing = removing.build().unwrap();
    commit(&mut at_alice, removing);
    let updating = at_alice.commit_builder().build().unwrap();
    commit(&mut at_alice, updating);
    // The first update of Alice's takes away her leaf of a KeyPackage, which may have been the reason: after it, and after
    // the Remove, OpenMLS is asked.
    let expected = [(false, 1), (false, 1), (false, 2), (false, 2), (true, 2)];
    assert_eq!(audited, expected);
    let told = hub.terms.objections.take_newest().unwrap();
    assert!(told.starts_with("a Commit of group den: "), "{told}");
    assert_eq!(hub.terms.objections.take_newest(), None);
}

#[test]
fn an_extension_that_all_support_need_not_be_required() {
    let (extensions, senders) = with_hub();
    let private = |user| client_with(user, &[PRIVATE], &[]);
    let (alice, bob) = (private("alice"), private("bob"));
    let mut at_alice = alice
        .create_group_with_id(b"den".to_vec(), extensions.clone(), list(&[]), None)
        .unwrap();
    let mut hub = Hub::of(&at_alice, &senders, "alice");
    let adding = at_alice
        .commit_builder()
        .add_member(key_package(&bob, &[], &[]));
    let adding = adding.unwrap().build().unwrap();
    assert!(hub.take(&[], &adding, "alice").audited);
    at_alice.apply_pending_commit().unwrap();
    let mut more = extensions;
    more.set(Extension::new(ExtensionType::new(PRIVATE), vec![1]));
    let changing = at_alice.commit_builder().set_group_context_ext(more);
    let changing = changing.unwrap().build().unwrap();
    hub.take(&[], &changing, "alice");
    assert_eq!(hub.terms.objections.count(), 1);
}

#[test]
fn who_is_removed_need_not_support_what_comes_with_the_same_commit() {
    let (extensions, senders) = with_hub();
    let (alice, bob) = (client_with("alice", &[PRIVATE], &[]), client("bob"));
    let mut at_alice = alice
        .create_group_with_id(b"den".to_vec(), extensions.clone(), list(&[]), None)
        .unwrap();
    let mut hub = Hub::of(&at_alice, &senders, "alice");
    let adding = at_alice
        .commit_builder()
        .add_member(key_package(&bob, &[], &[]));
    let adding = adding.unwrap().build().unwrap();
    hub.take(&[], &adding, "alice");
    at_alice.apply_pending_commit().unwrap();
    let mut more = extensions;
    more.set(Extension::new(ExtensionType::new(PRIVATE), vec![1]));
    let changing = at_alice.commit_builder().remove_member(1).unwrap();
    let changing = changing.set_group_context_ext(more).unwrap().build();
    let changing = changing.unwrap();
    let checked = hub.take(&[], &changing, "alice");
    assert_eq!(checked.left[0].client, uri("bob"));
}
