//! A client's claim: one request to each provider that is to be asked, one table of results.
//!
//! Source: transport requirements, section 3.1.

use super::Session;
use crate::peering::relay;
use futures::future::join_all;
use mimi_actors::{
    doors,
    ids::{ClientUri, Requester},
    wire::{
        BText,
        claim::ClaimRequest,
        door::{DoorRefused, Reply},
        link,
    },
};

/// Answers a claim for users of any providers, in the order of the request.
pub(super) async fn answer(
    session: &Session,
    client: &ClientUri,
    request: ClaimRequest,
) -> Result<Reply, DoorRefused> {
    // Others are told that the key is the client's: it must be the one that was proved here.
    let named = matches!(request.terms.requester, Requester::User(_));
    if named && session.device_key() != Some(&request.proof.key) {
        let detail = BText::clipped("a claim is signed with the key of the device that asks");
        return Err(DoorRefused::SenderNotBound { detail });
    }
    let asked = request.users.clone();
    let parts = doors::split_claim(client, request)?
        .into_iter()
        .map(|(provider, part)| {
            let (shards, peers) = (&session.shards, &session.peers);
            relay::part_of(shards, peers, provider, part, link::Request::Claim)
        });
    let claimed = join_all(parts).await.into_iter().flatten().collect();
    Ok(Reply::Claimed(doors::merge_claim(&asked, claimed)))
}
