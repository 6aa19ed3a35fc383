//! How much of what a peer asks for comes to nothing.

use mimi_actors::wire::{
    answer::{Answer, Refused},
    claim::{ClaimResponse, ClaimedUser, UserRefused},
    joining::Introduced,
    link::{LinkRefused, Reply, Request},
};

/// How many things a request asks for: the users of a claim, or one.
pub(super) fn items(request: &Request) -> u32 {
    match request {
        Request::Claim(claim) | Request::Relayed(claim) => count(claim.users.len()),
        Request::Vouch { .. } | Request::Room { .. } | Request::Resolve(_) => 1,
    }
}

/// How many of them were asked for in vain. Who is to come again, or was too late, has not asked in vain.
pub(super) fn in_vain(reply: &Reply) -> u32 {
    match reply {
        Reply::Claimed(response) => claimed(response),
        Reply::Vouched(vouched) => u32::from(!vouched),
        Reply::Introduced(introduced) => u32::from(*introduced == Introduced::NotAuthorized),
        Reply::Room(Answer::Refused(refused)) => u32::from(!matches!(
            refused,
            Refused::TryLater(_) | Refused::WrongEpoch { .. }
        )),
        Reply::Room(_) | Reply::Refused(LinkRefused::TryLater(_)) => 0,
        // Nothing was looked at, and it will not be.
        Reply::Refused(
            LinkRefused::SenderNotBound | LinkRefused::NotOwner | LinkRefused::BadFrame(_),
        ) => u32::MAX,
    }
}

/// Of how many users a claim got nothing, and never would have.
pub(crate) fn claimed(response: &ClaimResponse) -> u32 {
    let nothing = |claimed: &&ClaimedUser| match &claimed.result {
        Ok(clients) => clients.iter().all(|client| client.result.is_err()),
        Err(refused) => !matches!(
            refused,
            UserRefused::TryLater(_) | UserRefused::AnswerFull | UserRefused::Limited { .. }
        ),
    };
    count(response.users.iter().filter(nothing).count())
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mimi_actors::wire::{
        BVec, Payload,
        claim::{ClaimedClient, ClientRefused},
        refusal::TryLater,
    };

    #[test]
    fn who_gives_nothing_counts_and_who_may_give_later_does_not() {
        let client = |result| ClaimedClient {
            client: "mimi://a.example/d/alice/phone".parse().unwrap(),
            result,
        };
        let gives = Ok(BVec::from([
            client(Err(ClientRefused::Exhausted)),
            client(Ok(Payload::from(vec![1]))),
        ]));
        let has_none = Ok(BVec::from([client(Err(ClientRefused::Exhausted))]));
        for (result, expected) in [
            (gives, 0),
            (has_none, 1),
            (Ok(BVec::default()), 1),
            (Err(UserRefused::Unknown), 1),
            (Err(UserRefused::NoConsent), 1),
            (Err(UserRefused::Unsigned), 1),
            (Err(UserRefused::AnswerFull), 0),
            (Err(UserRefused::Limited { retry_after_ms: 5 }), 0),
            (Err(UserRefused::TryLater(TryLater::BUSY)), 0),
        ] {
            let user = "mimi://a.example/u/alice".parse().unwrap();
            let response = ClaimResponse {
                users: BVec::from([ClaimedUser { user, result }]),
            };
            assert_eq!(
                in_vain(&Reply::Claimed(response.clone())),
                expected,
                "{response:?}"
            );
        }
        let room = |refused| in_vain(&Reply::Room(Answer::Refused(refused)));
        assert_eq!(room(Refused::NotAuthorized), 1);
        assert_eq!(room(Refused::TryLater(TryLater::BUSY)), 0);
        assert_eq!(in_vain(&Reply::Vouched(false)), 1);
        assert_eq!(in_vain(&Reply::Vouched(true)), 0);
    }
}
