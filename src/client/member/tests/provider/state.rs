//! What the provider knows: devices, KeyPackages, one room, inboxes.

use super::super::*;
use mimi_actors::wire::{
    claim, door,
    door::{Reply, Request},
    joining::Introduced,
    room, user,
};

#[derive(Default)]
pub(super) struct State {
    pub(super) devices: BTreeMap<ClientUri, [u8; 32]>,
    packages: BTreeMap<ClientUri, Vec<Payload>>,
    claims: BTreeMap<claim::ClaimId, claim::ClaimResponse>,
    /// The clients of the latest claim: the next Welcome is theirs.
    claimed: Vec<ClientUri>,
    exists: bool,
    epoch: Epoch,
    opened_by: Hash,
    bundles: BTreeMap<Hash, Accepted>,
    events: Vec<(RoomEvent, Option<(ClientUri, ClientSeq)>)>,
    /// Own numbers and where they are in the room.
    numbers: BTreeMap<(ClientUri, ClientSeq), RoomSeq>,
    /// Members, and the last event that is not theirs.
    members: BTreeMap<ClientUri, RoomSeq>,
    inboxes: BTreeMap<ClientUri, Vec<Notice>>,
    pub(super) acked: BTreeMap<ClientUri, (InboxSeq, RoomSeq)>,
    /// The next answer to a Send is lost with its connection.
    pub(super) cut: bool,
}

impl State {
    pub(super) fn ack(&mut self, client: &ClientUri, acks: door::Acks) {
        let acked = self.acked.entry(client.clone()).or_default();
        acked.0 = acked.0.max(acks.inbox.unwrap_or_default());
        for (_, seq) in acks.rooms {
            acked.1 = acked.1.max(seq);
        }
    }

    pub(super) fn request(&mut self, client: &ClientUri, request: Request) -> Reply {
        match request {
            Request::HubSender => Reply::HubSender(HubSender {
                provider: "a.example".parse().unwrap(),
                signature_key: DeviceKey::generate().unwrap().public(),
            }),
            Request::Upload(packages) => {
                let taken: Vec<_> = packages.iter().map(|_| Ok(())).collect();
                let stock = self.packages.entry(client.clone()).or_default();
                stock.extend(packages);
                Reply::Uploaded(BVec::try_from(taken).unwrap())
            }
            Request::Claim(claim) => Reply::Claimed(self.claim(claim)),
            Request::Room(_, request) => Reply::Room(self.ask(client, request)),
            Request::Verdicts(_) => Reply::Room(Answer::Sent(BVec::default())),
            Request::User(_) | Request::Resolve { .. } => {
                let refused = Introduced::NotAuthorized;
                Reply::User(user::Answer::Introduced(refused))
            }
            Request::Enrol(_) | Request::Login(_) => unreachable!(),
        }
    }

    fn ask(&mut self, client: &ClientUri, request: room::Request) -> Answer {
        match request {
            room::Request::Create(beginning) => self.create(client, &beginning),
            room::Request::Commit(bundle) => self.commit(&bundle),
            room::Request::Propose(proposals) => {
                let references = proposals.iter().map(|one| {
                    let hash = Hash::of(one).0;
                    Payload::from(hash.to_vec())
                });
                let references = BVec::try_from(references.collect::<Vec<_>>()).unwrap();
                self.event(RoomBody::Proposals(proposals), None);
                Answer::Proposed(references)
            }
            // This provider lets nobody in whom nobody added.
            room::Request::GroupInfo(_) | room::Request::Codes(_) => {
                Answer::Refused(Refused::NotAuthorized)
            }
        }
    }

    fn claim(&mut self, claim: claim::ClaimRequest) -> claim::ClaimResponse {
        if let Some(first) = self.claims.get(&claim.id) {
            return first.clone();
        }
        self.claimed.clear();
        let mut users = Vec::new();
        for user in claim.users {
            let mut clients = Vec::new();
            for (client, stock) in &mut self.packages {
                if client.user() == &user {
                    self.claimed.push(client.clone());
                    clients.push(claim::ClaimedClient {
                        client: client.clone(),
                        result: stock.pop().ok_or(claim::ClientRefused::Exhausted),
                    });
                }
            }
            let result = if clients.is_empty() {
                Err(claim::UserRefused::Unknown)
            } else {
                Ok(BVec::try_from(clients).unwrap())
            };
            users.push(claim::ClaimedUser { user, result });
        }
        let response = claim::ClaimResponse {
            users: BVec::try_from(users).unwrap(),
        };
        self.claims.insert(claim.id, response.clone());
        response
    }

    fn create(&mut self, client: &ClientUri, create: &room::Beginning) -> Answer {
        check_group_info(&create.group_info);
        if std::mem::replace(&mut self.exists, true) {
            return Answer::Refused(Refused::Exists);
        }
        self.join(client.clone(), None);
        Answer::Created
    }

    fn join(&mut self, client: ClientUri, welcome: Option<WelcomeNotice>) {
        let after = RoomSeq(self.events.len() as u64);
        self.members.insert(client.clone(), after);
        let notice = Notice::Joined { after, welcome };
        self.inboxes.entry(client).or_default().push(notice);
    }

    fn event(&mut self, body: RoomBody, own: Option<(ClientUri, ClientSeq)>) -> RoomSeq {
        let seq = RoomSeq(self.events.len() as u64 + 1);
        let event = RoomEvent {
            seq,
            time: Millis(seq.0),
            own: None,
            body,
        };
        self.events.push((event, own));
        seq
    }

    fn commit(&mut self, bundle: &room::Bundle) -> Answer {
        let hash = Hash::of(&bundle.commit);
        if let Some(first) = self.bundles.get(&hash) {
            return Answer::Committed(*first);
        }
        let message = encoding::protocol_message(&bundle.commit).unwrap();
        if message.epoch().as_u64() != self.epoch.0 {
            return Answer::Refused(Refused::WrongEpoch {
                current: self.epoch,
                winner: self.opened_by,
            });
        }
        check_group_info(&bundle.group_info);
        self.epoch = self.epoch.next();
        self.opened_by = hash;
        let seq = self.event(
            RoomBody::Commit {
                epoch: self.epoch,
                commit: bundle.commit.clone(),
            },
            None,
        );
        if let Some(welcome) = &bundle.welcome {
            for client in std::mem::take(&mut self.claimed) {
                let notice = WelcomeNotice {
                    epoch: self.epoch,
                    welcome: welcome.clone(),
                    tree: bundle.tree.carried().to_vec().into(),
                };
                self.join(client, Some(notice));
            }
        }
        let accepted = Accepted {
            epoch: self.epoch,
            seq,
            time: Millis(seq.0),
        };
        self.bundles.insert(hash, accepted);
        Answer::Committed(accepted)
    }

    pub(super) fn send(&mut self, client: &ClientUri, frame: Send) -> Vec<VerdictRun> {
        let mut runs = Vec::new();
        for (place, message) in (0..).zip(frame.messages) {
            let number = frame.first.plus(place);
            let key = (client.clone(), number);
            let seq = match self.numbers.get(&key) {
                Some(seq) => *seq,
                None => self.event(RoomBody::Application(message), Some(key.clone())),
            };
            self.numbers.insert(key, seq);
            let time = Millis(seq.0);
            runs.push(VerdictRun {
                first: number,
                count: 1,
                verdict: Verdict::Accepted { seq, time },
            });
        }
        runs
    }

    pub(super) fn items(
        &self,
        client: &ClientUri,
        inbox: &mut InboxSeq,
        seq: &mut RoomSeq,
    ) -> Vec<DoorItem> {
        let mut items = Vec::new();
        let notices = self.inboxes.get(client).map_or(&[][..], Vec::as_slice);
        for notice in notices.iter().skip(usize::try_from(inbox.0).unwrap()) {
            *inbox = inbox.next();
            items.push(DoorItem::Inbox {
                seq: *inbox,
                room: room(),
                notice: notice.clone(),
            });
        }
        let Some(after) = self.members.get(client) else {
            return items;
        };
        *seq = (*seq).max(*after);
        let news = self.events.iter().skip(usize::try_from(seq.0).unwrap());
        let events: Vec<_> = news
            .map(|(event, own)| RoomEvent {
                own: own
                    .as_ref()
                    .filter(|(sender, _)| sender == client)
                    .map(|(_, number)| *number),
                ..event.clone()
            })
            .collect();
        if !events.is_empty() {
            *seq = seq.plus(events.len() as u64);
            let events = events.try_into().unwrap();
            items.push(DoorItem::Room {
                room: room(),
                events,
            });
        }
        items
    }
}
