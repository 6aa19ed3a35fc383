//! What a room's policy says to a Commit, to Proposals, to who comes in by itself and to messages, at their place in the log.
//!
//! Rooms without a participant list have no policy, and pay for it with a look at their GroupContext for each Commit. Shards of
//! the first level ask no policy.
//!
//! Source: transport requirements, sections 5 and 6.4.

mod waiting;

use super::{
    hub::{Commit, Create, Room},
    outcome::Refused,
    state::{Entered, Rules},
};
use crate::{
    ids::{ClientUri, UserUri},
    limits::{EPOCH_TOLERANCE_EPOCHS, POLICY_ENTERED_PER_ROOM_MAX},
    mls::{
        check::{
            bundle::CheckedBundle,
            proposal::{self, PendingProposal, ProposalKind},
        },
        codec::{commit::Proposal, extension},
        tree::view::app_data,
    },
    policy::{
        change::{self, Change, Objection, allow},
        components::{BadComponent, ComponentId, Dictionary, Role, Why},
        decide::{Action, Denied, Door, decide},
        state::{Clients, Policy},
    },
    wire::{
        BText,
        joining::CodeId,
        refusal::{Flaw, RefusalCode},
        version::Level,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// The refusal of a request, in one of its fields.
fn refused(objection: &Objection, field: &str) -> Refused {
    let detail = objection.to_string();
    Refused::Invalid(match objection {
        Objection::Denied { .. } => {
            Flaw::new(RefusalCode::ForbiddenByPolicy, &detail).in_field(field)
        }
        Objection::Bad(bad) => {
            let at = match bad.why {
                Why::Malformed(cause) => cause.at(),
                Why::Not(_) => None,
            };
            let field = format!("{field}.{}.{}", bad.component, bad.field);
            Flaw::new(RefusalCode::BadPolicy, &detail)
                .in_field(&field)
                .at_byte(at)
        }
    })
}

fn too_many(what: &str, max: usize) -> Refused {
    Refused::TooMany {
        what: BText::clipped(what),
        max: u32::try_from(max).unwrap_or(u32::MAX),
    }
}

/// The components that a waiting change of extensions would bring.
fn components_of(message: &[u8]) -> Option<Vec<u8>> {
    let framed = proposal::read(message).ok()?;
    let Proposal::Extensions(next) = &framed.body else {
        return None;
    };
    let data = extension::find(&next.list, extension::APP_DATA_DICTIONARY);
    Some(data.unwrap_or_default().to_vec())
}

/// The client that a waiting Add would bring in, and the signature key of its leaf.
fn added_by(message: &[u8]) -> Option<(ClientUri, Vec<u8>)> {
    let framed = proposal::read(message).ok()?;
    let Proposal::Add(package) = &framed.body else {
        return None;
    };
    Some((package.leaf.client()?, package.leaf.signature_key.to_vec()))
}

fn dictionary(components: &[u8]) -> Result<Dictionary<'_>, BadComponent> {
    match components {
        [] => Ok(Dictionary::default()),
        components => Dictionary::decode(components),
    }
}

/// Who did what in a Commit: the committer, but for what Proposals of others did.
struct Authors<'a> {
    components: &'a UserUri,
    reinit: Option<&'a UserUri>,
    joined: Vec<(UserUri, UserUri)>,
    left: Vec<(UserUri, UserUri)>,
}

impl<'a> Authors<'a> {
    fn of(room: &'a Room, commit: &'a Commit) -> Self {
        let committer = commit.sender.user();
        let leaves = room.roster.by_leaf();
        let user_at = |leaf: u32| leaves.get(&leaf).map_or(committer, |client| client.user());
        let covered = room.pending().iter();
        let covered: Vec<&PendingProposal> = covered
            .filter(|one| commit.checked.covered.contains(&one.reference))
            .collect();
        let of_kind = |kind: ProposalKind| {
            let one = covered.iter().find(|one| one.kind == kind);
            one.map_or(committer, |one| user_at(one.leaf))
        };
        let remover = |leaf: u32| {
            let removes = |one: &&&PendingProposal| {
                one.kind == ProposalKind::Remove(leaf)
                    || one.kind == ProposalKind::SelfRemove && one.leaf == leaf
            };
            let one = covered.iter().find(removes);
            one.map_or(committer, |one| user_at(one.leaf))
        };
        let adds = covered.iter().filter(|one| one.kind == ProposalKind::Add);
        let adds: BTreeMap<_, _> = adds
            .filter_map(|one| Some((added_by(&one.message)?, user_at(one.leaf))))
            .collect();
        // Who enters, or replaces its own leaf, is looked at by itself.
        let itself = |client: &ClientUri| commit.checked.external && *client == commit.sender;
        let joined = commit.checked.joined.iter();
        let joined = joined.filter(|one| !itself(&one.client)).map(|one| {
            let key = (one.client.clone(), one.signature_key.to_vec());
            let by = adds.get(&key).copied().unwrap_or(committer);
            (one.client.user().clone(), by.clone())
        });
        // Nobody answers for the removal of whom the hub proposed to remove.
        let expelled: BTreeSet<u32> = proposal::expelled(room.pending()).collect();
        let left = commit.checked.left.iter();
        let left = left.filter(|one| !itself(&one.client) && !expelled.contains(&one.leaf));
        let left = left.map(|one| {
            let user = one.client.user().clone();
            (user, remover(one.leaf).clone())
        });
        Self {
            components: of_kind(ProposalKind::Extensions),
            reinit: commit.checked.reinit.then(|| of_kind(ProposalKind::ReInit)),
            joined: joined.collect(),
            left: left.collect(),
        }
    }
}

/// Whether a room may begin with what its GroupContext says.
///
/// # Errors
/// A refusal with the code `bad_policy` that names component and field.
pub(super) fn check_beginning(level: Level, create: &Create) -> Result<(), Refused> {
    if level < Level::SECOND {
        return Ok(());
    }
    let read = || -> Result<(), BadComponent> {
        let all = dictionary(app_data(&create.view.group_context))?;
        let clients = Clients::from([(create.creator.user().clone(), 1)]);
        match Policy::read(&all)? {
            Some(policy) => policy.check_group(&clients),
            None => Ok(()),
        }
    };
    read().map_err(|bad| refused(&bad.into(), "group_info"))
}

impl Room {
    /// The policy that holds in the room, if it has one.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.rules.policy()
    }

    /// What holds in the epoch that a Commit opens.
    ///
    /// # Errors
    /// A refusal with the code `forbidden_by_policy` or `bad_policy`: what somebody may not do, or the component and field at
    /// fault.
    pub(super) fn next_rules(&self, level: Level, commit: &Commit) -> Result<Rules, Refused> {
        let old = app_data(&self.view().group_context);
        let new = app_data(&commit.checked.next.group_context);
        if old.is_empty() && new.is_empty() {
            return Ok(Rules::default());
        }
        let clients = self.clients_after(&commit.checked);
        let mut entered = self.rules.entered().clone();
        if level >= Level::SECOND {
            let refuse = |objection| refused(&objection, "commit");
            let user = commit.sender.user();
            self.check_effective(user).map_err(refuse)?;
            if let Some(role) = self.check_external(commit).map_err(refuse)? {
                entered.insert(user.clone(), role);
            }
            self.judge_commit(commit, (old, new), &mut entered, &clients)
                .map_err(refuse)?;
            if entered.len() > POLICY_ENTERED_PER_ROOM_MAX {
                let what = "users who stand in no list yet";
                return Err(too_many(what, POLICY_ENTERED_PER_ROOM_MAX));
            }
        }
        Ok(Rules::in_force(new, entered, || clients))
    }

    fn clients_after(&self, checked: &CheckedBundle) -> Clients {
        let mut clients = self.roster.by_user();
        for left in &checked.left {
            let user = left.client.user();
            if let Some(count) = clients.get_mut(user) {
                *count = count.saturating_sub(1);
            }
        }
        for joined in &checked.joined {
            *clients.entry(joined.client.user().clone()).or_default() += 1;
        }
        clients.retain(|_, count| *count > 0);
        clients
    }

    /// Judges a Commit by the policy that it finds. `entered` are those who came in by themselves, who enters with it among
    /// them; who stands in the list from now on, or is gone, is taken out of them.
    fn judge_commit(
        &self,
        commit: &Commit,
        (old, new): (&[u8], &[u8]),
        entered: &mut Entered,
        clients: &Clients,
    ) -> Result<(), Objection> {
        let Some(before) = self.policy() else {
            // What was there before anybody read it does not keep a room from going on.
            if old != new
                && let Some(after) = Policy::read(&dictionary(new)?)?
            {
                after.check_group(clients)?;
            }
            return Ok(());
        };
        let before = before.clone().with(entered);
        let (old, new) = (dictionary(old)?, dictionary(new)?);
        let after = Policy::read(&new)?;
        if let Some(listed) = &after {
            let list = ComponentId::PARTICIPANTS;
            let same = old.get(list) == new.get(list);
            // A new list takes in whoever stood in none.
            entered.retain(|user, _| same && listed.role_of(user) == Role::NOBODY);
        }
        let after = after.map(|after| after.with(entered));
        let authors = Authors::of(self, commit);
        let change = Change {
            author: authors.components,
            components: (&old, &new),
            joined: &authors.joined,
            left: &authors.left,
            reinit: authors.reinit,
        };
        change::check(&before, after.as_ref(), &change)?;
        if let Some(after) = &after {
            after.check_group(clients)?;
        }
        entered.retain(|user, _| clients.contains_key(user));
        Ok(())
    }

    /// Whether the sender of an external Commit may come; the role that it gets if it stands in no list.
    fn check_external(&self, commit: &Commit) -> Result<Option<u32>, Objection> {
        match self.policy() {
            Some(policy) if commit.checked.external => {
                let code = self.joining.code();
                self.entry(policy, &commit.sender, code)
                    .map_err(|denied| Objection::Denied {
                        user: commit.sender.user().clone(),
                        denied,
                    })
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Whether a client may come in by itself; the role that its user gets if it stands in no list.
    fn entry(
        &self,
        policy: &Policy,
        client: &ClientUri,
        code: Option<CodeId>,
    ) -> Result<Option<u32>, Denied> {
        if !policy.takes_external_commits() {
            return Err(Denied::NoExternalCommits);
        }
        let user = client.user();
        if self.has_member(client) {
            // It replaces its own leaf.
            return Ok(None);
        }
        if policy.role_of(user) != Role::NOBODY {
            return decide(policy, user, Action::AddClient(user)).map(|()| None);
        }
        let first = || policy.first_role().ok_or(Denied::NotListed);
        let (by, role) = match (code, policy.preauthorized(user)) {
            (Some(code), _) => {
                let role = self.joining.codes().role_of(code);
                (Door::Code, role.map_or_else(first, Ok)?)
            }
            (None, Some(role)) => (Door::Preauthorized, role),
            (None, None) => (Door::Open, first()?),
        };
        decide(policy, user, Action::Join { by, role }).map(|()| Some(role))
    }

    /// Whether a client may have the lease without a code: by the policy, or, without one, as a client of a participant.
    #[must_use]
    pub(super) fn comes_freely(&self, client: &ClientUri) -> bool {
        match self.policy() {
            Some(policy) => self.entry(policy, client, None).is_ok(),
            None => self.has_participant(client),
        }
    }

    /// Whether a client may have the lease with this code, or without one, as the log of a shard of this level has it.
    pub(super) fn may_have_lease(
        &self,
        level: Level,
        client: &ClientUri,
        code: Option<CodeId>,
    ) -> bool {
        match (self.policy(), code) {
            (Some(policy), _) if level >= Level::SECOND => self.entry(policy, client, code).is_ok(),
            (_, Some(_)) => true,
            (_, None) => self.has_participant(client),
        }
    }

    /// Whether a member may make a joining code for a role, or end one of somebody else.
    ///
    /// # Errors
    /// As [`Self::next_rules`].
    pub(super) fn check_code(
        &self,
        level: Level,
        client: &ClientUri,
        action: impl FnOnce(&Policy) -> Option<CodeAction>,
    ) -> Result<(), Refused> {
        let Some(policy) = self.policy().filter(|_| level >= Level::SECOND) else {
            return Ok(());
        };
        let action = match action(policy) {
            None => return Ok(()),
            Some(CodeAction::Make(role)) => Action::MakeCode { role },
            Some(CodeAction::End) => Action::EndCode,
        };
        allow(policy, client.user(), action).map_err(|objection| refused(&objection, "codes"))
    }

    /// Whether a client's messages are taken: its user has voice.
    pub(super) fn has_voice(&self, level: Level, client: &ClientUri) -> bool {
        let policy = self.policy().filter(|_| level >= Level::SECOND);
        policy.is_none_or(|policy| decide(policy, client.user(), Action::Send).is_ok())
    }

    /// Epochs that a message may be behind the room.
    pub(super) fn epoch_tolerance(&self, level: Level) -> u64 {
        let policy = self.policy().filter(|_| level >= Level::SECOND);
        let said = policy.and_then(Policy::epoch_tolerance);
        said.map_or(EPOCH_TOLERANCE_EPOCHS, |said| {
            said.min(EPOCH_TOLERANCE_EPOCHS)
        })
    }

    /// The effective view: whom a waiting Proposal bans, or takes out of the list, does no more than send messages, for
    /// which of several Commits comes first is not its to choose.
    fn check_effective(&self, user: &UserUri) -> Result<(), Objection> {
        if self.policy().is_none() {
            return Ok(());
        }
        let waiting = self.pending().iter();
        let mut waiting = waiting.filter(|one| one.kind == ProposalKind::Extensions);
        let puts_out = |one: &PendingProposal| {
            let components = components_of(&one.message).unwrap_or_default();
            let policy = dictionary(&components).and_then(|all| Policy::read(&all));
            let policy = policy.ok().flatten();
            policy.is_some_and(|policy| {
                let policy = policy.with(self.rules.entered());
                matches!(policy.role_of(user), Role::NOBODY | Role::BANNED)
            })
        };
        if waiting.any(puts_out) {
            let user = user.clone();
            let denied = Denied::PutOut;
            return Err(Objection::Denied { user, denied });
        }
        Ok(())
    }
}

/// What is done with a joining code.
pub(super) enum CodeAction {
    /// It is made, for this `role_index`.
    Make(u32),
    /// Somebody else's is ended.
    End,
}
