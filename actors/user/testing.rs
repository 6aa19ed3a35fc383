//! A user, its log and its clock, for the tests of this module.

use super::{
    command::{
        Ack, Add, Claim, Command, Consent, Deliver, Enrol, Revoke, Rules, StoredPackage, Upload,
    },
    cursors::Membership,
    fold::Fold,
    inbox::Held,
    outcome::{Answer, Claimed, Outcome},
};
use crate::{
    bucket::Rate,
    ids::{ClientUri, Requester, RoomUri, UserUri},
    machine::{Fold as _, Millis, Moment, Position},
    mls::codec::reader::put_vector,
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimTerms, ClientRefused},
        door::PackageRefused,
        event::{Epoch, Hash, InboxSeq, LinkSeq, RoomSeq},
        post::{Note, Notice, Post, WelcomeNotice},
        version::Level,
    },
};

pub(super) const NOW: Millis = Millis(1_700_000_000_000);
pub(super) const KEY: [u8; 32] = [7; 32];

/// A user of `b.example`.
pub(super) fn user(name: &str) -> UserUri {
    UserUri::new(&"b.example".parse().unwrap(), name).unwrap()
}

/// Alice of `a.example`, who claims.
pub(super) fn alice() -> UserUri {
    "mimi://a.example/u/alice".parse().unwrap()
}

pub(super) fn client(name: &str) -> ClientUri {
    ClientUri::new(&user("bobby"), name).unwrap()
}

pub(super) fn room(name: &str) -> RoomUri {
    format!("mimi://a.example/r/{name}").parse().unwrap()
}

pub(super) fn code(number: u64) -> Hash {
    Hash::of(&number.to_be_bytes())
}

/// A package of suite 1, good for a day; another number is another package.
pub(super) fn package(number: u64) -> StoredPackage {
    let bytes = |what: &str| Payload::from(format!("{what} {number}").into_bytes());
    StoredPackage {
        package: bytes("package"),
        reference: bytes("reference"),
        init_key: bytes("init key"),
        version: 1,
        ciphersuite: 1,
        not_before_s: NOW.as_seconds() - 60,
        not_after_s: NOW.as_seconds() + 24 * 3_600,
        extensions: Vec::new(),
        proposals: Vec::new(),
        credentials: vec![1],
        last_resort: false,
    }
}

pub(super) fn claim(id: u8, terms: ClaimTerms) -> Claim {
    let peer = terms.requester.provider().clone();
    let body = Hash::of(format!("{terms:?}").as_bytes());
    // Most tests ask more often than anybody may who is not bobby's own.
    let plenty = Rate {
        burst: 10_000,
        per_minute: 60_000,
    };
    Claim {
        id: ClaimId([id; 16]),
        hub: peer.clone(),
        peer,
        terms,
        body,
        rules: Rules {
            requester_on_user: plenty,
            provider_on_user: plenty,
            user: plenty,
            ..Rules::default()
        },
        over_ms: None,
    }
}

/// What a claim got: of each client its package, by the client's name.
pub(super) fn packages(claimed: &Claimed) -> Vec<(String, Result<Payload, ClientRefused>)> {
    let clients = claimed.as_ref().unwrap().iter();
    clients
        .map(|c| (c.client.client().to_owned(), c.result.clone()))
        .collect()
}

pub(super) fn got(name: &str, number: u64) -> (String, Result<Payload, ClientRefused>) {
    (name.to_owned(), Ok(package(number).package))
}

pub(super) fn none(name: &str, why: ClientRefused) -> (String, Result<Payload, ClientRefused>) {
    (name.to_owned(), Err(why))
}

pub(super) fn welcome() -> Option<WelcomeNotice> {
    let bytes = Payload::from(vec![1, 2, 3]);
    Some(WelcomeNotice {
        epoch: Epoch(1),
        welcome: bytes.clone(),
        tree: bytes,
    })
}

/// A Welcome for these KeyPackages, and for one of somebody else.
pub(super) fn welcome_for(references: &[&[u8]]) -> Payload {
    let mut secrets = Vec::new();
    for reference in references.iter().chain([&&b"somebody else's"[..]]) {
        put_vector(&mut secrets, reference);
        put_vector(&mut secrets, b"kem output");
        put_vector(&mut secrets, b"ciphertext");
    }
    let mut out = vec![0, 1, 0, 3, 0, 1];
    put_vector(&mut out, &secrets);
    put_vector(&mut out, b"encrypted GroupInfo");
    Payload::from(out)
}

pub(super) fn post(name: &str, clients: &[&str], notice: Notice) -> Post {
    let clients: Vec<_> = clients.iter().map(|name| client(name)).collect();
    Post {
        room: room(name),
        clients: BVec::try_from(clients).unwrap(),
        notice,
    }
}

/// A notice by which clients of bobby join a room.
pub(crate) fn delivered(name: &str, clients: &[&str]) -> Deliver {
    Deliver {
        from_shard: 3,
        seq: LinkSeq(1),
        post: post(name, clients, joined(4)),
    }
}

pub(super) fn joined(after: u64) -> Notice {
    Notice::Joined {
        after: RoomSeq(after),
        welcome: welcome(),
    }
}

pub(super) fn left(upto: u64) -> Notice {
    Notice::Left {
        upto: RoomSeq(upto),
    }
}

/// Where bobby's phone stands in a room.
pub(super) fn membership(bobby: &Log, name: &str) -> Option<Membership> {
    let phone = client("phone");
    let mut memberships = bobby.fold.memberships(&phone);
    memberships
        .find(|(at, _)| **at == room(name))
        .map(|(_, membership)| membership)
}

/// What lies in the inbox of bobby's phone.
pub(super) fn seqs(bobby: &Log) -> Vec<u64> {
    bobby
        .fold
        .inbox(&client("phone"))
        .map(|item| item.seq.0)
        .collect()
}

/// What the provider has to say in the inbox of one of bobby's clients.
pub(super) fn note(bobby: &Log, name: &str) -> Vec<Note> {
    let phone = client(name);
    let held = bobby.fold.inbox(&phone).map(|item| item.held);
    held.filter_map(|held| match held {
        Held::Note(note) | Held::Said(note, _) => Some(note),
        Held::Notice(_) | Held::From(..) => None,
    })
    .collect()
}

/// A membership of these numbers.
pub(super) fn reads(after: u64, upto: Option<u64>, acked: u64) -> Option<Membership> {
    let upto = upto.map(RoomSeq);
    Some(Membership {
        after: RoomSeq(after),
        upto,
        acked: RoomSeq(acked),
        control: RoomSeq(acked),
    })
}

/// A user and the log it is a fold over.
#[derive(Default)]
pub(super) struct Log {
    pub(super) fold: Fold,
    pub(super) time: Millis,
    pub(super) level: Level,
    entries: u64,
    codes: u64,
    link: u64,
}

impl Log {
    /// A user with these devices, to whom alice has consent.
    pub(super) fn of(name: &str, devices: &[&str]) -> Self {
        let mut log = Self {
            time: NOW,
            ..Self::default()
        };
        log.apply(Command::Add(Add {
            user: user(name),
            code: code(u64::MAX),
        }));
        for device in devices {
            log.enrol(ClientUri::new(&user(name), device).unwrap());
        }
        log.consent(alice(), None, Some(true));
        log
    }

    /// Bobby with these devices, to whom alice has consent.
    pub(super) fn bobby(devices: &[&str]) -> Self {
        Self::of("bobby", devices)
    }

    pub(super) fn apply(&mut self, command: Command) -> Outcome {
        self.entries += 1;
        let at = Position {
            entry: self.entries,
            command: 0,
        };
        let moment = Moment {
            at,
            time: self.time,
            level: self.level,
        };
        self.fold.apply(moment, &command)
    }

    pub(super) fn position(&self) -> Position {
        Position {
            entry: self.entries,
            command: 0,
        }
    }

    /// Everything but the compact bytes is lost, as in a restart.
    pub(super) fn restart(&mut self) {
        let bytes = self.fold.compact();
        let revived = Fold::revive(&bytes).unwrap();
        assert_eq!(revived, self.fold);
        assert_eq!(revived.compact(), bytes);
        self.fold = revived;
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.time = self.time.plus(ms);
    }

    pub(super) fn issue(&mut self, code: Hash) -> Answer {
        let user = self.uri();
        self.apply(Command::Add(Add { user, code })).answer
    }

    pub(super) fn uri(&self) -> UserUri {
        let clients = self.fold.clients().next();
        clients.map_or_else(|| user("bobby"), |client| client.user().clone())
    }

    /// Enrols with a code of its own.
    pub(super) fn enrol(&mut self, client: ClientUri) {
        self.codes += 1;
        let code = code(self.codes);
        self.apply(Command::Add(Add {
            user: client.user().clone(),
            code,
        }));
        let enrol = Enrol {
            code,
            client,
            device_key: KEY,
        };
        assert_eq!(self.apply(Command::Enrol(enrol)).answer, Answer::Enrolled);
    }

    pub(super) fn enrol_as(&mut self, name: &str, device_key: [u8; 32], code: Hash) -> Answer {
        self.apply(Command::Enrol(Enrol {
            code,
            client: client(name),
            device_key,
        }))
        .answer
    }

    pub(super) fn revoke(&mut self, name: &str) -> Answer {
        self.apply(Command::Revoke(Revoke {
            client: client(name),
        }))
        .answer
    }

    pub(super) fn consent(
        &mut self,
        requester: UserUri,
        room: Option<RoomUri>,
        grant: Option<bool>,
    ) -> Answer {
        self.consent_to(requester.into(), room, grant)
    }

    pub(super) fn consent_to(
        &mut self,
        requester: Requester,
        room: Option<RoomUri>,
        grant: Option<bool>,
    ) -> Answer {
        self.apply(Command::Consent(Consent {
            requester,
            room,
            grant,
        }))
        .answer
    }

    pub(super) fn upload(
        &mut self,
        client: &ClientUri,
        packages: Vec<StoredPackage>,
    ) -> Vec<Result<(), PackageRefused>> {
        let packages = packages.into_iter().map(Ok).collect();
        let answer = self
            .apply(Command::Upload(Upload {
                client: client.clone(),
                packages,
            }))
            .answer;
        let Answer::Uploaded(results) = answer else {
            panic!("{answer:?}")
        };
        results
    }

    /// Stocks packages of these numbers for one of bobby's clients.
    pub(super) fn stock(&mut self, name: &str, numbers: impl IntoIterator<Item = u64>) {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        for some in numbers.chunks(100) {
            let packages = some.iter().map(|number| package(*number)).collect();
            let results = self.upload(&client(name), packages);
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
    }

    pub(super) fn claim(&mut self, claim: Claim) -> Claimed {
        let answer = self.apply(Command::Claim(claim)).answer;
        let Answer::Claimed(claimed) = answer else {
            panic!("{answer:?}")
        };
        claimed
    }

    /// A claim of alice without special wishes.
    pub(super) fn claim_plain(&mut self, id: u8) -> Claimed {
        self.claim(claim(id, ClaimTerms::new(alice())))
    }

    /// The next notice of shard 3.
    pub(super) fn deliver(&mut self, post: Post) -> Outcome {
        self.link += 1;
        self.deliver_as(3, self.link, post)
    }

    pub(super) fn deliver_as(&mut self, from_shard: u16, seq: u64, post: Post) -> Outcome {
        self.apply(Command::Deliver(Deliver {
            from_shard,
            seq: LinkSeq(seq),
            post,
        }))
    }

    pub(super) fn ack(&mut self, name: &str, inbox: Option<u64>, rooms: &[(&str, u64)]) -> Outcome {
        self.apply(Command::Ack(Ack {
            client: client(name),
            inbox: inbox.map(InboxSeq),
            rooms: upto(rooms),
            control: Vec::new(),
        }))
    }

    pub(super) fn ack_control(&mut self, name: &str, rooms: &[(&str, u64)]) -> Outcome {
        self.apply(Command::Ack(Ack {
            client: client(name),
            inbox: None,
            rooms: Vec::new(),
            control: upto(rooms),
        }))
    }
}

fn upto(rooms: &[(&str, u64)]) -> Vec<(RoomUri, RoomSeq)> {
    let each = rooms.iter();
    each.map(|(name, seq)| (room(name), RoomSeq(*seq)))
        .collect()
}
