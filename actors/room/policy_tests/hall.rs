//! A room with a policy, for the tests beside.

use super::super::{
    codes::{Code, KeepCode},
    hub::{Command, Commit, Create, Fold},
    leases::Grant,
    outcome::{Answer, Done, Outcome},
    testing::{self, Hub, alice, create, message, proposal},
};
use crate::{
    ids::ClientUri,
    machine::Fold as _,
    mls::{
        check::{
            bundle::Joined,
            proposal::{PendingProposal, ProposalKind},
        },
        codec::reader::put_vector,
        tree::view::{GroupView, Member},
    },
    policy::{
        components::{Component as _, ComponentId, Dictionary, Participant, ParticipantList},
        sets,
    },
    wire::{
        event::{Hash, Verdict},
        joining::CodeId,
        refusal::{RefusalCode, Refuses as _},
        version::Level,
    },
};
use bytes::Bytes;

/// Roles of [`sets::moderated`].
pub(super) const BANNED: u32 = 1;
pub(super) const GUEST: u32 = 2;
pub(super) const ATTENDEE: u32 = 3;
pub(super) const SPEAKER: u32 = 4;
pub(super) const MODERATOR: u32 = 5;
pub(super) const OWNER: u32 = 6;

/// A room with a policy.
pub(super) struct Hall {
    pub(super) hub: Hub,
    pub(super) components: Vec<u8>,
}

impl Hall {
    /// A room of Alice that begins with these components, and what came of it.
    pub(super) fn of(level: Level, components: &[u8]) -> (Self, Outcome) {
        let mut hall = Self {
            hub: Hub {
                time: 100,
                level,
                ..Hub::default()
            },
            components: components.to_vec(),
        };
        let create = Create {
            view: GroupView {
                group_context: context(0, components),
                ..testing::view(0)
            },
            ..create()
        };
        let outcome = hall.hub.apply(&Command::Create(create));
        (hall, outcome)
    }

    /// A moderated room of Alice, who owns it, and of these, from leaf 1 on; in epoch 1.
    pub(super) fn with(others: &[(&ClientUri, u32)]) -> Self {
        let (alice, level) = (alice(), Level::SECOND);
        let (mut hall, outcome) = Self::of(level, &moderated(&[(&alice, OWNER)]));
        assert_eq!(outcome.done, Answer::Created);
        let all: Vec<_> = [(&alice, OWNER)].iter().chain(others).copied().collect();
        let outcome = hall.commits(&alice, 0, &moderated(&all), |commit| {
            for (leaf, (who, _)) in (1..).zip(others) {
                adds(commit, leaf, who);
            }
        });
        accepted(&outcome);
        hall
    }

    /// What becomes of a Commit that brings these components. A refused one leaves nothing.
    pub(super) fn commits(
        &mut self,
        who: &ClientUri,
        leaf: u32,
        components: &[u8],
        change: impl FnOnce(&mut Commit),
    ) -> Outcome {
        let mut commit = self.hub.commit(&format!("commit {}", self.hub.entry));
        commit.sender = who.clone();
        commit.checked.committer = leaf;
        let next = &mut commit.checked.next;
        next.group_context = context(commit.on.epoch.0 + 1, components);
        change(&mut commit);
        let before = self.hub.fold.clone();
        let outcome = self.hub.apply(&Command::Commit(Box::new(commit)));
        if matches!(&outcome.done, Done::Answer(Answer::Refused(_))) {
            assert_eq!(self.hub.fold, before, "what is refused leaves nothing");
            assert_eq!(
                (&outcome.emitted[..], &outcome.notices[..]),
                (&[][..], &[][..])
            );
        } else {
            self.components = components.to_vec();
        }
        let revived = Fold::revive(&self.hub.fold.compact());
        assert_eq!(revived.as_ref(), Ok(&self.hub.fold), "a snapshot holds it");
        outcome
    }

    /// What becomes of a member's Commit that changes roles.
    pub(super) fn lists(&mut self, who: &ClientUri, roles: &[(&ClientUri, u32)]) -> Outcome {
        let next = with(&self.components, ComponentId::PARTICIPANTS, &list(roles));
        let leaf = self.hub.room().roster.member(who).unwrap().leaf;
        self.commits(who, leaf, &next, |_| {})
    }

    pub(super) fn sends(&mut self, who: &ClientUri, number: u64) -> Verdict {
        let text = message(self.hub.epoch(), &format!("text {number}"));
        let outcome = self.hub.send(who, number, vec![text]);
        let Done::Answer(Answer::Sent(verdicts)) = outcome.done else {
            panic!("{outcome:?}")
        };
        verdicts.last().unwrap().verdict
    }

    pub(super) fn grants(&mut self, who: &ClientUri, code: Option<CodeId>) -> Outcome {
        let grant = Grant {
            joiner: who.clone(),
            request: Hash::of(format!("{who} {}", self.hub.entry).as_bytes()),
            signature_key: Bytes::from_static(b"key").into(),
            code,
            lease_ms: 10_000,
        };
        self.hub.apply(&Command::Grant(grant))
    }

    pub(super) fn keeps_code(&mut self, who: &ClientUri, role_index: Option<u32>) -> Outcome {
        let code = Code {
            hash: Hash::default(),
            uses_left: None,
            not_after: None,
            role_index,
            passphrase: None,
            creator: who.clone(),
            revoked: false,
        };
        self.hub.apply(&Command::KeepCode(KeepCode { code }))
    }

    pub(super) fn makes_code(&mut self, who: &ClientUri, role_index: Option<u32>) -> CodeId {
        let outcome = self.keeps_code(who, role_index);
        let Done::CodeKept(code) = outcome.done else {
            panic!("{outcome:?}")
        };
        code
    }
}

pub(super) fn list(roles: &[(&ClientUri, u32)]) -> Vec<u8> {
    let listed = |(who, role_index): &(&ClientUri, u32)| Participant {
        user: who.user().clone(),
        role_index: *role_index,
    };
    let participants = roles.iter().map(listed).collect();
    ParticipantList { participants }.encode()
}

pub(super) fn with(before: &[u8], component: ComponentId, data: &[u8]) -> Vec<u8> {
    let before = match before {
        [] => Dictionary::default(),
        before => Dictionary::decode(before).unwrap(),
    };
    before.encode_with(component, data)
}

/// The components of a moderated room with these participants.
pub(super) fn moderated(roles: &[(&ClientUri, u32)]) -> Vec<u8> {
    let all = with(&[], ComponentId::ROLES, &sets::moderated().encode());
    with(&all, ComponentId::PARTICIPANTS, &list(roles))
}

/// A list of extensions that holds these components.
pub(super) fn extensions(components: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    if !components.is_empty() {
        list.extend(6_u16.to_be_bytes());
        put_vector(&mut list, components);
    }
    let mut out = Vec::new();
    put_vector(&mut out, &list);
    out
}

/// A GroupContext with these components.
pub(super) fn context(epoch: u64, components: &[u8]) -> Bytes {
    let mut bare = testing::view(epoch).group_context.to_vec();
    assert_eq!(bare.pop(), Some(0), "it ends with no extensions");
    bare.extend(extensions(components));
    bare.into()
}

pub(super) fn adds(commit: &mut Commit, leaf: u32, who: &ClientUri) {
    let joined = Joined {
        leaf,
        client: who.clone(),
        key_package_reference: Some(Bytes::from_static(b"reference")),
        signature_key: Bytes::from_static(b"key"),
    };
    commit.checked.joined.push(joined).unwrap();
}

pub(super) fn removes(commit: &mut Commit, leaf: u32, who: &ClientUri) {
    let left = Member {
        leaf,
        client: who.clone(),
        signature_key: Bytes::from_static(b"key"),
    };
    commit.checked.left.push(left).unwrap();
}

/// An external Commit of who takes this leaf.
pub(super) fn enters(commit: &mut Commit, leaf: u32, who: &ClientUri) {
    commit.checked.external = true;
    let joined = Joined {
        leaf,
        client: who.clone(),
        key_package_reference: None,
        signature_key: Bytes::from_static(b"key"),
    };
    commit.checked.joined.push(joined).unwrap();
}

/// A Proposal of a leaf to change the components, as a PublicMessage.
pub(super) fn change_of(epoch: u64, leaf: u32, components: &[u8]) -> PendingProposal {
    let mut message = vec![0, 1, 0, 1];
    put_vector(&mut message, testing::GROUP);
    message.extend(epoch.to_be_bytes());
    message.push(1);
    message.extend(leaf.to_be_bytes());
    message.extend([0, 2, 0, 7]);
    message.extend(extensions(components));
    put_vector(&mut message, b"signature");
    put_vector(&mut message, b"membership tag");
    PendingProposal {
        kind: ProposalKind::Extensions,
        message: message.into(),
        ..proposal(leaf, &format!("change by {leaf}"))
    }
}

pub(super) fn accepted(outcome: &Outcome) {
    let done = &outcome.done;
    assert!(
        matches!(done, Done::Answer(Answer::Committed(_))),
        "{done:?}"
    );
}

pub(super) fn proposed(outcome: &Outcome) {
    let done = &outcome.done;
    assert!(
        matches!(done, Done::Answer(Answer::Proposed(_))),
        "{done:?}"
    );
}

pub(super) fn granted(outcome: &Outcome) {
    let done = &outcome.done;
    assert!(matches!(done, Done::Granted { .. }), "{done:?}");
}

/// The code, the field and the explanation of a refusal.
pub(super) fn refusal(outcome: &Outcome) -> (RefusalCode, String, String) {
    let Done::Answer(Answer::Refused(refused)) = &outcome.done else {
        panic!("{outcome:?}")
    };
    let told = refused.refusal();
    let field = told.field.map(|field| field.to_string());
    (told.code, field.unwrap_or_default(), refused.to_string())
}

/// It is refused because somebody may not, and the explanation says this.
pub(super) fn forbidden(outcome: &Outcome, missing: &str) {
    let (code, _, detail) = refusal(outcome);
    assert_eq!(code, RefusalCode::ForbiddenByPolicy, "{detail}");
    assert!(detail.contains(missing), "{detail}");
}

/// It is refused because of this component and field.
pub(super) fn bad(outcome: &Outcome, field: &str) {
    let (code, named, detail) = refusal(outcome);
    assert_eq!(
        (code, &named[..]),
        (RefusalCode::BadPolicy, field),
        "{detail}"
    );
}
