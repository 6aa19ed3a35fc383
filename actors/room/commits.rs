//! Commits at the hub: one for each epoch, with everything that belongs to it, or nothing.
//!
//! Promises besides: who opens epoch after epoch waits, so that the others find one to commit in. Only Commits that
//! opened an epoch count, and a retry of one gets its first answer.
//!
//! Source: transport requirements, section 3.2.

use super::{
    hub::{Commit, Fold, Room},
    outcome::{Accepted, Answer, Change, Done, Emission, Outcome, Refused, UserNotice},
    state::Rules,
};
use crate::{
    ids::{ClientUri, ProviderId, UserUri},
    limits::PEER_BEHIND_RETRY_AFTER_MS,
    machine::{Millis, Moment, Position},
    mls::{check::bundle::CheckedBundle, tree::view::GroupView},
    wire::{
        BVec,
        event::{Copy, Epoch, Lane, Recipient, RoomSeq},
        refusal::RefusalCode,
    },
};
use std::collections::BTreeMap;

impl Fold {
    pub(super) fn commit(&mut self, moment: Moment, commit: &Commit) -> Outcome {
        let time = moment.time;
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if let Some(accepted) = room.remembered(commit.bundle) {
            return Outcome::answer(Answer::Committed(accepted));
        }
        if room.has_ended() {
            return Outcome::refused(Refused::Ended);
        }
        if commit.on.epoch != room.epoch() {
            return Outcome::refused(room.wrong_epoch());
        }
        if let Err(refused) = room.check_committer(time, commit) {
            return Outcome::refused(refused);
        }
        if let Err(refused) = room.check_rate(&commit.sender, commit.rate, time) {
            return Outcome::refused(refused);
        }
        if let Err(refused) = room.check_reach(commit) {
            return Outcome::refused(refused);
        }
        if commit.on != room.checked_on() {
            return Outcome::answer(Done::Stale);
        }
        if let Err(refused) = room.check_covered(commit) {
            return Outcome::refused(refused);
        }
        // What was checked on this very state follows on it; what does not is refused like a bundle that says so.
        let next = commit.checked.next.after(room.view());
        match (next, room.next_rules(moment.level, commit)) {
            (Ok(view), Ok(rules)) => room.open_epoch(moment, commit, view, rules),
            (Ok(_), Err(refused)) => Outcome::refused(refused),
            (Err(refused), _) => Outcome::refused(Refused::invalid(
                RefusalCode::BadTreeDelta,
                &refused.to_string(),
            )),
        }
    }
}

impl Room {
    fn check_committer(&self, time: Millis, commit: &Commit) -> Result<(), Refused> {
        if commit.checked.external {
            return self.check_entry(time, commit);
        }
        let committer = self.roster.member(&commit.sender);
        if committer.is_none_or(|member| member.leaf != commit.checked.committer) {
            return Err(Refused::NotMember);
        }
        Ok(())
    }

    /// Nobody is brought in whose provider is too far behind, unless another client of it is in the room. Who comes by
    /// itself shows that its provider is there.
    fn check_reach(&self, commit: &Commit) -> Result<(), Refused> {
        let joined = commit.checked.joined.iter();
        let mut providers = joined.map(|joined| joined.client.provider());
        let is_in = |provider: &ProviderId| self.roster.has_client_of_provider(provider);
        let unreached =
            providers.find(|provider| commit.behind.contains(provider) && !is_in(provider));
        match unreached {
            Some(provider) if !commit.checked.external => Err(Refused::PeerBehind {
                provider: provider.clone(),
                retry_after_ms: PEER_BEHIND_RETRY_AFTER_MS,
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn open_epoch(
        &mut self,
        moment: Moment,
        commit: &Commit,
        view: GroupView,
        rules: Rules,
    ) -> Outcome {
        let Moment { at, time, level } = moment;
        let hub = self.hub.clone();
        // Who was in before gets the Commit, those it removes included.
        let mut recipients = self.followers();
        let (seq, time) = self.sequence.take(1, time);
        let epoch = self
            .group
            .open_epoch(level, &commit.commit, &commit.checked, view);
        self.pending.epoch_opened();
        self.joining.epoch_opened(commit.checked.external);
        if self.has_ended() {
            self.since_second.heard.ended();
            self.since_second.departed.ended();
        } else {
            self.since_second.heard.epoch_opened(epoch);
            self.since_second.departed.left(&commit.checked.left);
        }
        self.change_members(epoch, &commit.checked);
        self.rules = rules;
        let is_member = |client: &ClientUri| self.roster.member(client).is_some();
        self.commit_rate
            .count(&commit.sender, commit.rate, time, is_member);
        recipients.extend(invited_only(&commit.checked, &recipients, &hub));
        let accepted = Accepted { epoch, seq, time };
        self.first_answers.remember_bundle(commit.bundle, accepted);
        Outcome {
            emitted: vec![Emission {
                first: seq,
                count: 1,
                at,
                item: 0,
                time,
                origin: None,
                lane: Lane::Commit(accepted.epoch),
                recipients,
            }],
            notices: notices(commit, &hub, seq, at),
            ..Outcome::answer(Answer::Committed(accepted))
        }
    }

    fn change_members(&mut self, epoch: Epoch, checked: &CheckedBundle) {
        self.roster.change(&checked.left, &checked.joined, epoch);
        let providers = checked.joined.iter();
        for provider in providers.map(|joined| joined.client.provider()) {
            if *provider != self.hub {
                self.senders.admit(provider);
            }
        }
    }
}

/// Providers whose first clients join: they get the Invitation, not the Commit before it.
fn invited_only(checked: &CheckedBundle, known: &[Recipient], hub: &ProviderId) -> Vec<Recipient> {
    let mut invited: Vec<Recipient> = Vec::new();
    for joined in &checked.joined {
        let provider = joined.client.provider();
        let listed = known
            .iter()
            .chain(&invited)
            .any(|recipient| recipient.provider == *provider);
        if provider != hub && !listed {
            invited.push(Recipient {
                provider: provider.clone(),
                copy: Copy::Invitation,
            });
        }
    }
    invited
}

/// One notice for each user of this provider that gained or lost clients.
fn notices(commit: &Commit, hub: &ProviderId, seq: RoomSeq, at: Position) -> Vec<UserNotice> {
    // Who replaces its own leaf is told only where it begins again.
    let rejoined = |client: &&ClientUri| commit.checked.external && **client == commit.sender;
    let left = commit.checked.left.iter().map(|member| &member.client);
    let left = left.filter(|client| !rejoined(client));
    let joined = commit.checked.joined.iter().map(|joined| &joined.client);
    let left = local_by_user(left, hub, Change::Left { upto: seq }, at);
    let joined = local_by_user(joined, hub, Change::Joined { after: seq }, at);
    // A client that is removed and added again in one Commit ends as a member.
    left.into_iter().chain(joined).collect()
}

/// Groups the clients of `provider` by user.
pub(super) fn local_by_user<'a>(
    clients: impl Iterator<Item = &'a ClientUri>,
    provider: &ProviderId,
    change: Change,
    at: Position,
) -> Vec<UserNotice> {
    let mut users: BTreeMap<&UserUri, Vec<ClientUri>> = BTreeMap::new();
    for client in clients.filter(|client| client.provider() == provider) {
        users.entry(client.user()).or_default().push(client.clone());
    }
    let notices = |(user, clients): (&UserUri, Vec<ClientUri>)| {
        let user = user.clone();
        BVec::pieces(clients).map(move |clients| UserNotice {
            user: user.clone(),
            clients,
            change,
            at,
            item: 0,
        })
    };
    users.into_iter().flat_map(notices).collect()
}
