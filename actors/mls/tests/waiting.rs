//! Proposals that may wait, and those that may not.

use super::{
    super::fixture::{World, now},
    forged::framed,
};
use crate::mls::{
    check::{
        hub_senders::HubSenders,
        proposal::{self, ProposalRefused, check_proposal},
    },
    codec::commit,
    tree::cache::TreeCache,
};

#[test]
fn a_proposal_of_another_sender_epoch_or_group_is_refused() {
    let mut world = World::of(3);
    let update = world.propose_update(1).message;
    let refused = check_proposal(
        &world.view,
        &update,
        &world.clients[2].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(refused, Err(ProposalRefused::SenderNotBound));
    let refused = check_proposal(
        &World::of(3).view,
        &update,
        &world.clients[1].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(refused, Err(ProposalRefused::Signature));
    world.step(0, &[], &[], false).unwrap();
    let refused = check_proposal(
        &world.view,
        &update,
        &world.clients[1].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(
        refused,
        Err(ProposalRefused::WrongEpoch {
            proposal: 1,
            current: 2
        })
    );
    let mut group = update.to_vec();
    group[5] ^= 1;
    let refused = check_proposal(
        &world.view,
        &group.into(),
        &world.clients[1].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(refused, Err(ProposalRefused::WrongGroup));
}

#[test]
fn a_proposal_with_a_flipped_byte_or_cut_short_is_refused() {
    let mut world = World::of(2);
    let update = world.propose_update(1).message;
    let check = |message| {
        check_proposal(
            &world.view,
            &message,
            &world.clients[1].uri,
            now(),
            &TreeCache::none(),
            &HubSenders::NONE,
        )
    };
    let membership_tag = update.len() - 33;
    for at in 0..update.len() {
        let mut bytes = update.to_vec();
        bytes[at] ^= 1;
        assert!(
            check(bytes.into()).is_err() || at > membership_tag,
            "byte {at}"
        );
        assert!(check(update.slice(..at)).is_err(), "cut at {at}");
    }
}

#[test]
fn a_proposal_that_breaks_a_rule_on_its_own_does_not_wait() {
    let mut world = World::of(3);
    let refused = |content: &[u8]| {
        let message = framed(&world, 0, 2, content);
        check_proposal(
            &world.view,
            &message,
            &world.clients[0].uri,
            now(),
            &TreeCache::none(),
            &HubSenders::NONE,
        )
    };
    let blank = refused(&[0, 3, 0, 0, 0, 9]);
    assert_eq!(
        blank,
        Err(ProposalRefused::Invalid("removes a leaf that is blank"))
    );
    assert!(refused(&[0, 3, 0, 0, 0, 1]).is_ok());
    let extensions = refused(&[0, 7, 3, 0xf0, 1, 0]);
    assert_eq!(
        extensions,
        Err(ProposalRefused::Invalid(
            "a member does not support an extension of the group"
        ))
    );

    let update = world.propose_update(1).message;
    let head = 4 + 1 + world.view.group_id().unwrap().len() + 8 + 1 + 4 + 1 + 1;
    let proposal = proposal::read(&update).unwrap();
    let commit::Proposal::Update(leaf) = &proposal.body else {
        panic!("not an Update")
    };
    let stolen = &update[head..head + 2 + leaf.encoded.len()];
    let message = framed(&world, 0, 2, stolen);
    let refused = check_proposal(
        &world.view,
        &message,
        &world.clients[0].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(
        refused,
        Err(ProposalRefused::Invalid(
            "leaf of the update names another client"
        ))
    );
}

#[test]
fn whoever_is_outside_the_group_is_told_that_it_may_not_propose() {
    let world = World::of(2);
    let mut external = framed(&world, 0, 2, &[0, 3, 0, 0, 0, 1]).to_vec();
    external[4 + 1 + 9 + 8] = 2;
    let refused = check_proposal(
        &world.view,
        &external.into(),
        &world.clients[0].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(
        refused,
        Err(ProposalRefused::Unsupported(
            "Proposal from outside the group"
        ))
    );
    let mut absent = framed(&world, 0, 2, &[0, 3, 0, 0, 0, 1]).to_vec();
    absent[4 + 1 + 9 + 8 + 1..][..4].copy_from_slice(&[0xff; 4]);
    let refused = check_proposal(
        &world.view,
        &absent.into(),
        &world.clients[0].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(refused, Err(ProposalRefused::NotMember));
}
