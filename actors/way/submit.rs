//! What the sender of submissions does with what the hub of their rooms says.
//!
//! Source: transport requirements, section 4.

use crate::{
    room::follower::{Command, Reject},
    shard_request::ShardRequest,
    wire::link::SubmitRejected,
};

/// Tells the follower of each room what its hub refused without numbering it: that is the verdict.
#[must_use]
pub fn rejects(refused: Vec<SubmitRejected>) -> Vec<ShardRequest> {
    let reject = |rejected: SubmitRejected| {
        let reject = Reject {
            first: rejected.first,
            count: rejected.count,
            reason: rejected.reason,
        };
        ShardRequest::Follower(rejected.room, Command::Reject(reject))
    };
    refused.into_iter().map(reject).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::{SubmitRefused, SubmitSeq};

    #[test]
    fn each_run_that_a_hub_refuses_is_told_to_the_follower_of_its_room() {
        let rejected = |name: &str, first| SubmitRejected {
            room: format!("mimi://a.example/r/{name}").parse().unwrap(),
            first: SubmitSeq(first),
            count: 2,
            reason: SubmitRefused::NotMember,
        };
        let told = rejects(vec![rejected("x", 1), rejected("y", 4)]);
        let of = |request: &ShardRequest| {
            let ShardRequest::Follower(room, Command::Reject(reject)) = request else {
                panic!("{request:?}")
            };
            (room.to_string(), reject.first, reject.count)
        };
        let told: Vec<_> = told.iter().map(of).collect();
        let run = |name: &str, first| (format!("mimi://a.example/r/{name}"), SubmitSeq(first), 2);
        assert_eq!(told, [run("x", 1), run("y", 4)]);
    }
}
