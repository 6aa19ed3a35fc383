//! Members of mls-rs verify what their hub proposes as an external sender, and take it in.

use super::*;
use crate::mls::{
    check::expel::expel,
    fixture::{self, HUB_KEY, sign_as_hub},
};

#[test]
fn members_of_mls_rs_take_in_what_the_hub_proposes() {
    let name = BasicCredential::new(b"mimi://a.example".to_vec()).into_credential();
    let hub = SigningIdentity::new(name, HUB_KEY.to_vec().into());
    let mut extensions = ExtensionList::new();
    extensions
        .set_from(ExternalSendersExt::new(vec![hub]))
        .unwrap();
    let (alice, bob) = (client("alice"), client("bob"));
    let mut at_alice = alice
        .create_group_with_id(b"den".to_vec(), extensions, ExtensionList::new(), None)
        .unwrap();
    let mut room = Hub::of(&at_alice, &fixture::hub(), "alice");
    let package = bob
        .generate_key_package_message(ExtensionList::new(), ExtensionList::new(), None)
        .unwrap();
    let adding = at_alice.commit_builder().add_member(package).unwrap();
    let added = adding.build().unwrap();
    room.take(&[], &added, "alice");
    at_alice.apply_pending_commit().unwrap();

    let epoch = at_alice.current_epoch();
    let proposal = expel(&room.view, epoch, 1, &fixture::hub(), sign_as_hub).unwrap();
    let message = MlsMessage::from_bytes(&proposal.message).unwrap();
    let received = at_alice.process_incoming_message(message).unwrap();
    assert!(matches!(received, ReceivedMessage::Proposal(_)));
    let covering = at_alice.commit_builder().build().unwrap();
    let checked = room.take(std::slice::from_ref(&proposal), &covering, "alice");
    assert_eq!(checked.covered, [proposal.reference]);
    assert_eq!(checked.left[0].client, uri("bob"));
}
