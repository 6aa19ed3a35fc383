//! Values that many frames and records hold.

use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    machine::Millis,
    wire::{
        BText, BVec, Payload,
        answer::{Accepted, Answer, Refused},
        claim::{
            ClaimId, ClaimProof, ClaimRequest, ClaimResponse, ClaimTerms, ClaimedClient,
            ClaimedUser, ClientRefused, UserRefused,
        },
        event::{
            Body, ClientSeq, CommitEvent, Entered, Epoch, Event, Hash, Invitation, Item, RoomSeq,
            SubmitRefused, SubmitSeq, Verdict, VerdictRun,
        },
        joining::{
            CodeFacts, CodeId, CodeTerms, CodesAsk, GroupInfoRequest, MadeCode, SealedGroupInfo,
        },
        post::{Notice, WelcomeNotice},
        tree::TreeKind,
    },
};

pub(super) fn provider() -> ProviderId {
    "b.example".parse().unwrap()
}

pub(super) fn room() -> RoomUri {
    "mimi://a.example/r/clubhouse".parse().unwrap()
}

pub(super) fn user_uri() -> UserUri {
    "mimi://b.example/u/bob".parse().unwrap()
}

pub(super) fn alice() -> ClientUri {
    "mimi://a.example/d/alice/phone".parse().unwrap()
}

pub(super) fn bob() -> ClientUri {
    "mimi://b.example/d/bob/phone".parse().unwrap()
}

pub(super) fn some(text: &str) -> Payload {
    Payload::from(text.as_bytes().to_vec())
}

pub(super) fn raw(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn list<T, const MAX: usize>(elements: Vec<T>) -> BVec<T, MAX> {
    BVec::try_from(elements).unwrap()
}

pub(super) fn text<const MAX: usize>() -> BText<MAX> {
    BText::clipped("why")
}

pub(super) fn hash() -> Hash {
    Hash([0xab; 32])
}

pub(super) fn accepted() -> Accepted {
    Accepted {
        epoch: Epoch(3),
        seq: RoomSeq(300),
        time: Millis(1_700_000_000_000),
    }
}

pub(super) fn word(verdict: Verdict) -> VerdictRun {
    VerdictRun {
        first: ClientSeq(7),
        count: 2,
        verdict,
    }
}

pub(super) fn placed() -> Verdict {
    Verdict::Accepted {
        seq: RoomSeq(300),
        time: Millis(1_700_000_000_000),
    }
}

pub(super) fn invitation() -> Invitation {
    Invitation {
        epoch: Epoch(3),
        clients: list(vec![bob()]),
        welcome: some("welcome"),
        tree: some("tree"),
    }
}

pub(super) fn event(body: Body) -> Event {
    Event {
        seq: RoomSeq(300),
        time: Millis(1_700_000_000_000),
        body,
    }
}

/// A claim as a version of the doors can say it.
pub(super) fn claim(version: u8) -> ClaimRequest {
    let mut proof = ClaimProof {
        key: [7; 32],
        before: list(vec![some("signature")]),
        ..ClaimProof::default()
    };
    if version > 1 {
        proof.signatures = list(vec![some("verbatim")]);
        proof.requests = list(vec![hash()]);
        proof.envelope = some("envelope");
    }
    ClaimRequest {
        id: ClaimId([9; 16]),
        terms: terms(),
        users: list(vec![user_uri()]),
        proof,
    }
}

pub(super) fn terms() -> ClaimTerms {
    let requester = alice().user().clone();
    ClaimTerms {
        asking_client: Some(alice()),
        room: Some(room()),
        versions: list(vec![1]),
        ciphersuites: list(vec![2, 1]),
        required_extensions: list(vec![3]),
        required_proposals: list(vec![8]),
        required_credentials: list(vec![1]),
        ..ClaimTerms::new(requester)
    }
}

pub(super) fn claimed() -> ClaimResponse {
    let client = |result| ClaimedClient {
        client: bob(),
        result,
    };
    let user = |result| ClaimedUser {
        user: user_uri(),
        result,
    };
    let refused = client(Err(ClientRefused::Exhausted));
    ClaimResponse {
        users: list(vec![
            user(Ok(list(vec![client(Ok(some("package"))), refused]))),
            user(Err(UserRefused::NoConsent)),
        ]),
    }
}

/// A request for the GroupInfo as a version of the doors can say it.
pub(super) fn group_info_request(version: u8) -> GroupInfoRequest {
    let only_today = |text| {
        if version > 1 {
            some(text)
        } else {
            Payload::default()
        }
    };
    GroupInfoRequest {
        room: room(),
        joiner: bob(),
        id: [9; 16],
        time: Millis(1_700_000_000_000),
        ciphersuite: 1,
        hpke_key: some("hpke key"),
        signature_key: some("key"),
        container: TreeKind::Delta,
        wait_ms: 8_000,
        code: Some(some("code")),
        passphrase: Some(BText::clipped("sesame")),
        signature: only_today("verbatim"),
        envelope: only_today("envelope"),
        before: some("signature"),
    }
}

pub(super) fn codes() -> CodesAsk {
    CodesAsk::Create(CodeTerms {
        uses: Some(1),
        lifetime_ms: Some(60_000),
        role_index: Some(3),
        passphrase: Some(BText::clipped("sesame")),
    })
}

fn sealed() -> SealedGroupInfo {
    SealedGroupInfo {
        epoch: Epoch(3),
        time: Millis(1_700_000_000_000),
        lease_ms: 10_000,
        kem_output: some("kem"),
        ciphertext: some("sealed"),
        signature: some("signature"),
    }
}

fn code_facts() -> CodeFacts {
    CodeFacts {
        id: CodeId(3),
        creator: bob(),
        uses_left: Some(1),
        not_after: Some(Millis(1_700_000_000_000)),
        role_index: Some(3),
        has_passphrase: true,
        revoked: false,
    }
}

pub(super) fn answers() -> Vec<(&'static str, Answer)> {
    vec![
        ("created", Answer::Created),
        ("committed", Answer::Committed(accepted())),
        ("proposed", Answer::Proposed(list(vec![some("reference")]))),
        (
            "sent",
            Answer::Sent(list(vec![
                word(Verdict::Queued),
                word(placed()),
                word(Verdict::Refused(SubmitRefused::NotMember)),
            ])),
        ),
        ("received", Answer::Received),
        ("gap", Answer::Gap { expected: 300 }),
        ("group-info", Answer::GroupInfo(Box::new(sealed()))),
        (
            "code-made",
            Answer::CodeMade(MadeCode {
                id: CodeId(3),
                code: some("code"),
            }),
        ),
        ("codes", Answer::Codes(list(vec![code_facts()]))),
        ("code-revoked", Answer::CodeRevoked),
        ("refused", Answer::Refused(Refused::NotMember)),
    ]
}

pub(super) fn items() -> Vec<(&'static str, Item)> {
    let commit = CommitEvent {
        epoch: Epoch(3),
        commit: some("commit"),
        left: list(vec![bob()]),
        entered: None,
        invitation: Some(invitation()),
    };
    let bare = CommitEvent {
        left: list(vec![]),
        invitation: None,
        ..commit.clone()
    };
    let entry = CommitEvent {
        entered: Some(bob()),
        ..bare.clone()
    };
    let entered = Entered {
        epoch: Epoch(3),
        client: bob(),
    };
    let events = vec![
        ("application", Body::Application(some("message"))),
        (
            "proposals",
            Body::Proposals(list(vec![some("p"), some("q")])),
        ),
        ("commit", Body::Commit(commit)),
        ("commit-alone", Body::Commit(bare)),
        ("commit-external", Body::Commit(entry)),
        ("invited", Body::Invited(invitation())),
        ("entered", Body::Entered(entered)),
        ("own", Body::Own(SubmitSeq(7))),
    ];
    let refilled = Item::Refilled {
        requester: user_uri(),
        client: alice(),
    };
    let refused = Item::Refused {
        submit_seq: SubmitSeq(7),
        reason: SubmitRefused::EpochTooOld { current: Epoch(9) },
    };
    let events = events
        .into_iter()
        .map(|(name, body)| (name, Item::Event(event(body))));
    events
        .chain([("refused", refused), ("refilled", refilled)])
        .collect()
}

pub(super) fn submit_refusals(version: u8) -> Vec<(&'static str, SubmitRefused)> {
    let current = Epoch(9);
    let mut all = vec![
        ("not-authorized", SubmitRefused::NotAuthorized),
        ("not-member", SubmitRefused::NotMember),
        ("epoch-too-old", SubmitRefused::EpochTooOld { current }),
        ("epoch-ahead", SubmitRefused::EpochAhead { current }),
        ("malformed", SubmitRefused::Malformed),
        ("ended", SubmitRefused::Ended),
        ("poisoned", SubmitRefused::Poisoned),
    ];
    if version > 1 {
        all.push(("duplicate", SubmitRefused::Duplicate));
        all.push(("no-voice", SubmitRefused::NoVoice));
    }
    all
}

pub(super) fn notices() -> Vec<(&'static str, Notice)> {
    let welcome = WelcomeNotice {
        epoch: Epoch(3),
        welcome: some("welcome"),
        tree: some("tree"),
    };
    let after = RoomSeq(300);
    vec![
        (
            "joined",
            Notice::Joined {
                after,
                welcome: Some(welcome),
            },
        ),
        (
            "created",
            Notice::Joined {
                after: RoomSeq(0),
                welcome: None,
            },
        ),
        ("left", Notice::Left { upto: RoomSeq(300) }),
    ]
}
