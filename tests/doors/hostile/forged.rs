//! What a hostile member can make: everything signed with its own right key, and yet wrong.

use super::{
    bundles::told,
    forger::{
        COMMIT, EXTERNAL, Forger, Info, NEW_MEMBER_PROPOSAL, PROPOSAL, epoch_place, member,
        reference, reinit, remove, sign, signer_of, value, vector,
    },
    *,
};
use crate::support::until;
use mimi_client::member::Ticket;
use openmls_basic_credential::SignatureKeyPair;

/// A case: its name, what comes back, and what is sent.
type Case = (&'static str, &'static str, Vec<u8>);

/// What is over when the forger begins.
struct Past {
    /// The Commit that removed amy.
    removal: PreparedCommit,
    /// A Proposal of the epoch after it.
    void: Payload,
}

/// Alice at leaf 0, nobody at leaf 1, where amy was, mallory at leaf 2; and a Proposal of an epoch that is over.
async fn yard(book: &mut Book, amy: &mut Member, mallory: &mut Member) -> (RoomUri, Past) {
    let yard = room("yard", A);
    for member in [&mut *amy, &mut *mallory] {
        assert_eq!(member.upload(1).await.unwrap(), 1);
    }
    book.alice.create_room(&yard).await.unwrap();
    let users = [amy.client().user().clone(), mallory.client().user().clone()];
    invite(&mut book.alice, &yard, &users).await.unwrap();
    wait_epoch(&mut book.alice, &yard, Epoch(1)).await;
    let gone = [amy.client().clone()];
    let removal = book.alice.prepare_remove(&yard, &gone).unwrap();
    book.alice.commit(&removal).await.unwrap();
    wait_epoch(mallory, &yard, Epoch(2)).await;
    let void = mallory.propose_update(&yard).await.unwrap();
    let update = book.alice.prepare_update(&yard).unwrap();
    book.alice.commit(&update).await.unwrap();
    wait_epoch(&mut book.alice, &yard, Epoch(3)).await;
    wait_epoch(mallory, &yard, Epoch(3)).await;
    book.rest().await;
    let past = Past {
        removal,
        void: void[0].clone(),
    };
    (yard, past)
}

/// Members that sign what they should not.
pub(super) async fn members(book: &mut Book, amy: &mut Member, mallory: &mut Member) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let (yard, past) = yard(book, amy, mallory).await;
    let connection = logged_in(book, &dialer, &book.alice).await;
    let right = book.alice.prepare_update(&yard).unwrap();
    book.alice.abandon_commit(&yard).unwrap();
    let entrance = book.alice.entrance(&yard).unwrap();
    let forger = Forger {
        signer: signer_of(&book.net, &book.alice),
        context: Info::read(&entrance.group_info).context,
        room: yard.clone(),
        right,
    };

    for (name, want, bytes) in [
        group_infos(&forger),
        lists(&forger, &past.void),
        sizes(&forger),
    ]
    .concat()
    {
        let back = say(&connection, &bytes).await;
        book.exact(&format!("forged: {name}"), back, want).await;
    }
    for (name, want, bytes) in proposals(&forger) {
        let back = say(&connection, &bytes).await;
        book.exact(&format!("forged proposals: {name}"), back, want)
            .await;
    }

    epochs(book, &connection, &forger, past).await;
    let removed = logged_in(book, &dialer, amy).await;
    let back = say(&removed, &forger.bundle(|_| ())).await;
    book.exact(
        "forged: a Commit of a removed member",
        back,
        "not_authorized",
    )
    .await;

    // Prepared before mallory gives up the group that he knows, for one that he wants to enter.
    let leaving = mallory.prepare_proposals(&yard, Proposing::Leave).unwrap();
    entries(book, &yard, mallory, &forger).await;
    let his = logged_in(book, &dialer, mallory).await;
    let back = say(&his, &forger.propose(leaving)).await;
    let taken = matches!(reply(&back), Some(Reply::Room(Answer::Proposed(_))));
    assert!(taken, "{back:?}");
    book.rest().await;
    let back = say(&connection, &forger.bundle(|_| ())).await;
    let name = "forged: a Commit that leaves in who is leaving";
    book.exact(name, back, "omitted_proposals 1").await;
}

/// The GroupInfo of a right Commit, wrong in one field each.
fn group_infos(forger: &Forger) -> Vec<Case> {
    let [group_id, epoch, tree, transcript, extensions] =
        Info::read(&forger.right.group_info).places();
    let flip = |place: usize| move |info: &mut Info| info.context[place] ^= 1;
    vec![
        (
            "a GroupInfo of another ciphersuite",
            "group_info_mismatch: cipher_suite of the GroupInfo is not what the Commit makes it",
            forger.info(|info| info.context[3] = 3),
        ),
        (
            "a GroupInfo of another group",
            "group_info_mismatch: group_id of the GroupInfo is not what the Commit makes it",
            forger.info(flip(group_id)),
        ),
        (
            "a GroupInfo of another epoch",
            "group_info_mismatch: epoch of the GroupInfo is not what the Commit makes it",
            forger.info(flip(epoch + 7)),
        ),
        (
            "a GroupInfo of another tree",
            "tree_mismatch: the GroupInfo names another tree hash",
            forger.info(flip(tree)),
        ),
        (
            "a GroupInfo of another transcript",
            "group_info_mismatch: confirmed_transcript_hash of the GroupInfo is not what the Commit makes it",
            forger.info(flip(transcript)),
        ),
        (
            "a GroupInfo with other extensions of the group",
            "group_info_mismatch: extensions of the GroupInfo is not what the Commit makes it",
            forger.info(|info| {
                info.context.truncate(extensions);
                info.context.push(0);
            }),
        ),
        (
            "a GroupInfo with another confirmation tag",
            "group_info_mismatch: confirmation_tag of the GroupInfo is not what the Commit makes it",
            forger.info(|info| info.tag[0] ^= 1),
        ),
        (
            "a GroupInfo that names another signer",
            "group_info_mismatch: signer of the GroupInfo is not what the Commit makes it",
            forger.info(|info| info.signer = 2),
        ),
        (
            "a GroupInfo without external_pub",
            "group_info_mismatch: external_pub of the GroupInfo is not what the Commit makes it",
            forger.info(|info| info.extensions.clear()),
        ),
        (
            "a GroupInfo whose external_pub is no key",
            "group_info_mismatch: external_pub of the GroupInfo is not what the Commit makes it",
            forger.info(|info| info.extensions = vec![0, 4, 2, 1, 7]),
        ),
        (
            "a GroupInfo with the tree in it",
            "group_info_mismatch: ratchet_tree of the GroupInfo is not what the Commit makes it",
            forger.info(|info| info.extensions.extend([0, 2, 1, 0])),
        ),
        (
            "a GroupInfo with one extension twice",
            "malformed",
            forger.info(|info| info.extensions.extend_from_within(..)),
        ),
        (
            "a GroupInfo signed by somebody else",
            "signature: the signature of the GroupInfo is wrong",
            {
                let other = SignatureKeyPair::new(forger.signer.signature_scheme()).unwrap();
                let info = Info::read(&forger.right.group_info).signed(&other);
                forger.bundle(|bundle| bundle.group_info = info)
            },
        ),
    ]
}

/// Commits whose sender or list of Proposals breaks a rule.
fn lists(forger: &Forger, void: &[u8]) -> Vec<Case> {
    let of = |leaf: u32| {
        let commit = forger.commit(leaf, &[]);
        forger.bundle(|bundle| bundle.commit = commit)
    };
    let unknown: Vec<_> = (0..3).map(|number: u8| reference(&[number; 32])).collect();
    vec![
        ("a Commit of mallory's leaf", "sender_not_bound", of(2)),
        ("a Commit of a blank leaf", "not_member", of(1)),
        ("a Commit of a leaf outside the tree", "not_member", of(4)),
        (
            "a Commit of the last leaf there can be",
            "not_member",
            of(u32::MAX),
        ),
        (
            "a Commit of an external sender",
            "unsupported: Commit from outside the group is not supported",
            {
                let commit = forger.framed(&[EXTERNAL, 0, 0, 0, 0], COMMIT, &[0, 0]);
                forger.bundle(|bundle| bundle.commit = commit)
            },
        ),
        (
            "a Commit without the path that it needs",
            "tree_mismatch: invalid path: there must be one",
            forger.list(&[]),
        ),
        (
            "a Commit that names Proposals nobody made",
            "unknown_proposals 3",
            forger.list(&unknown),
        ),
        (
            "a Commit that names a Proposal of another epoch",
            "unknown_proposals 1",
            forger.list(&[reference(void)]),
        ),
        (
            "a Commit that removes its sender",
            "invalid_proposals 0: invalid list of Proposals: committer is removed",
            forger.list(&[remove(0)]),
        ),
        (
            "a Commit that removes nobody's leaf",
            "invalid_proposals 0: invalid list of Proposals: removes a leaf that is blank",
            forger.list(&[remove(1)]),
        ),
        (
            "a Commit that removes a leaf outside the tree",
            "invalid_proposals 0: invalid list of Proposals: removes a leaf that is blank",
            forger.list(&[remove(u32::MAX)]),
        ),
        (
            "a Commit that removes a member twice",
            "invalid_proposals 0: invalid list of Proposals: two proposals change one leaf",
            forger.list(&[remove(2), remove(2)]),
        ),
        (
            "a Commit with a SelfRemove of its own",
            "invalid_proposals 0: invalid list of Proposals: SelfRemove is not by reference",
            forger.list(&[value(10, &[])]),
        ),
        (
            "a Commit with a secret shared before",
            "unsupported: PreSharedKey proposal is not supported",
            forger.list(&[value(4, &[0; 40])]),
        ),
        (
            "a Commit with a kind of Proposal nobody knows",
            "unsupported: proposal type is not supported",
            forger.list(&[value(99, &[0; 40])]),
        ),
        (
            "a Commit of a member with an ExternalInit",
            "invalid_proposals 0: invalid list of Proposals: ExternalInit stands in external Commits only",
            forger.list(&[value(6, &vector(&[0; 32]))]),
        ),
        (
            "a Commit with a ReInit beside a Remove",
            "invalid_proposals 0: invalid list of Proposals: a ReInit stands beside other proposals",
            forger.list(&[reinit(b"next", 1), remove(2)]),
        ),
        (
            "a Commit with a ReInit of an older version",
            "invalid_proposals 0: invalid list of Proposals: goes back to an older version",
            forger.list(&[reinit(b"next", 0)]),
        ),
        (
            "a Commit that demands what members lack",
            "invalid_proposals 0: invalid list of Proposals: a member lacks a required extension",
            forger.list(&[value(7, &[8, 0, 3, 5, 2, 0xf0, 1, 0, 0])]),
        ),
        (
            "a Commit that changes the extensions twice",
            "invalid_proposals 0: invalid list of Proposals: two proposals change the extensions",
            forger.list(&[value(7, &[0]), value(7, &[0])]),
        ),
    ]
}

/// Bundles that are too large, or hold too much.
fn sizes(forger: &Forger) -> Vec<Case> {
    let filled = |bytes: usize, front: &[u8]| {
        let mut part = front.to_vec();
        part.resize(bytes, 0);
        Payload::from(part)
    };
    let welcome = |secrets: usize| {
        let one = [&vector(&[7; 32])[..], &[0, 0]].concat();
        let front = [0, 1, 0, 3, 0, 1];
        let welcome = [&front[..], &vector(&one.repeat(secrets)), &[0]].concat();
        forger.bundle(|bundle| bundle.welcome = Some(welcome.into()))
    };
    let references = |count: usize| {
        let entries: Vec<_> = (0..count).map(|_| reference(&[])).collect();
        forger.list(&entries)
    };
    let mut new = Member::create(client("new", "phone", A), None).unwrap();
    let package = new.key_packages(1, &PackageOptions::default()).unwrap();
    let add = value(1, &package[0][4..]);
    let adds = |count: usize| forger.list(&vec![add.clone(); count]);
    let removes = |count: u32| forger.list(&(0..count).map(remove).collect::<Vec<_>>());
    vec![
        ("a Commit of a MiB and a byte", "malformed_commit", {
            let commit = filled((1 << 20) + 1, &forger.right.commit);
            forger.bundle(|bundle| bundle.commit = commit)
        }),
        ("a Welcome of a MiB and a byte", "malformed", {
            let welcome = filled((1 << 20) + 1, &[0, 1, 0, 3, 0, 1]);
            forger.bundle(|bundle| bundle.welcome = Some(welcome))
        }),
        ("a GroupInfo of 64 KiB and a byte", "malformed", {
            let group_info = filled((64 << 10) + 1, &forger.right.group_info);
            forger.bundle(|bundle| bundle.group_info = group_info)
        }),
        ("a tree of 2 MiB", "malformed", {
            let tree = filled(2 << 20, &[]);
            forger.bundle(|bundle| bundle.tree = tree.into())
        }),
        (
            "a Welcome for nobody, of a Commit that adds nobody",
            "welcome_mismatch",
            welcome(1),
        ),
        ("a Welcome of 1,001 references", "malformed", welcome(1_001)),
        (
            "a Welcome of 29,000 references",
            "malformed",
            welcome(29_000),
        ),
        (
            "a Commit of 1,025 Proposals",
            "malformed",
            references(1_025),
        ),
        (
            "a Commit of 100,000 Proposals",
            "malformed",
            references(100_000),
        ),
        ("a Commit of 1,025 Removes", "malformed", removes(1_025)),
        ("a Commit of 1,001 Adds", "malformed", adds(1_001)),
    ]
}

/// Proposals that may not wait for a Commit.
fn proposals(forger: &Forger) -> Vec<Case> {
    let one = |sender: &[u8], content: &[u8]| {
        forger.propose(vec![forger.framed(sender, PROPOSAL, content)])
    };
    let remove = |leaf: u8| [0, 3, 0, 0, 0, leaf];
    vec![
        (
            "one of mallory's leaf",
            "sender_not_bound",
            one(&member(2), &remove(0)),
        ),
        (
            "one of a blank leaf",
            "not_member",
            one(&member(1), &remove(0)),
        ),
        (
            "one of a leaf outside the tree",
            "not_member",
            one(&member(9), &remove(0)),
        ),
        (
            "one of an external sender",
            "unsupported",
            one(&[EXTERNAL, 0, 0, 0, 0], &remove(2)),
        ),
        (
            "one of somebody who wants to be added",
            "unsupported",
            one(&[NEW_MEMBER_PROPOSAL], &remove(2)),
        ),
        (
            "a secret shared before",
            "unsupported: PreSharedKey proposal is not supported",
            one(&member(0), &[&[0, 4][..], &[0; 40]].concat()),
        ),
        (
            "an ExternalInit",
            "invalid_proposals: invalid Proposal: ExternalInit stands in external Commits only",
            one(&member(0), &[&[0, 6][..], &vector(&[0; 32])].concat()),
        ),
        (
            "one of a kind nobody knows",
            "unsupported: proposal type is not supported",
            one(&member(0), &[&[0, 99][..], &[0; 40]].concat()),
        ),
        (
            "a Remove of nobody's leaf",
            "invalid_proposals",
            one(&member(0), &remove(1)),
        ),
        (
            "21 at once",
            "too_many pending proposals of one client: 20",
            {
                let numbered = |number: u8| {
                    let sender = [&member(0)[..], &[1, number]].concat();
                    forger.framed_with(&sender, PROPOSAL, &remove(2))
                };
                forger.propose((0..21).map(numbered).collect())
            },
        ),
        ("one of 64 KiB and more", "malformed", {
            let mut long = forger.framed(&member(0), PROPOSAL, &remove(2)).to_vec();
            long.resize((64 << 10) + 1, 0);
            forger.propose(vec![long.into()])
        }),
    ]
}

/// Commits of other epochs, and one that was accepted long ago.
async fn epochs(book: &mut Book, connection: &Connection, forger: &Forger, past: Past) {
    let removal = past.removal;
    let back = say(connection, &commit_of(&removal)).await;
    let first = |back: &Back| match reply(back) {
        Some(Reply::Room(Answer::Committed(accepted))) => accepted.epoch == removal.epoch,
        _ => false,
    };
    book.back("forged: a bundle that was accepted, again", back, first)
        .await;
    let current = Epoch(forger.right.epoch.0 - 1);
    let of_epoch = |epoch: u64| {
        let mut other = forger.commit(0, &[]).to_vec();
        let at = epoch_place(&forger.context);
        other[at..at + 8].copy_from_slice(&epoch.to_be_bytes());
        forger.bundle(|bundle| bundle.commit = other.into())
    };
    let mut stale = removal.clone();
    stale.tree = forger.right.tree.clone();
    for (name, bytes) in [
        ("of the first epoch", of_epoch(0)),
        ("of the epoch before", of_epoch(current.0 - 1)),
        ("of the next epoch", of_epoch(current.0 + 1)),
        ("of the last epoch there can be", of_epoch(u64::MAX)),
        ("that was accepted, with another tree", commit_of(&stale)),
    ] {
        let back = say(connection, &bytes).await;
        let wrong_epoch = |back: &Back| match reply(back) {
            Some(Reply::Room(Answer::Refused(Refused::WrongEpoch { current: said, .. }))) => {
                said == current
            }
            _ => false,
        };
        book.back(&format!("forged: a Commit {name}"), back, wrong_epoch)
            .await;
    }
}

/// External Commits by who has the lease, and removes what is not its own.
async fn entries(book: &mut Book, yard: &RoomUri, mallory: &mut Member, forger: &Forger) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let connection = logged_in(book, &dialer, mallory).await;
    let signer = signer_of(&book.net, mallory);
    let entrance = until("mallory has the lease", async || {
        let asked = mallory.ask_group_info(yard, &Ticket::default()).await;
        asked.ok()
    })
    .await;
    let entry = mallory.prepare_entry(yard, &entrance).unwrap();
    book.rest().await;
    // The Remove of its own leaf, the third, is there as a value.
    let own = remove(2);
    let windows = entry.commit.windows(own.len()).enumerate();
    let found: Vec<usize> = windows
        .filter_map(|(place, window)| (window == own).then_some(place))
        .collect();
    assert_eq!(found.len(), 1, "the Remove is found once");
    let other = |leaf: u32| {
        let mut commit = entry.commit.to_vec();
        commit[found[0] + 3..found[0] + 7].copy_from_slice(&leaf.to_be_bytes());
        // At its end are the signature, two bytes longer than 64, and the tag, one byte longer than 32.
        let signed = commit.len() - 33 - 66;
        let to_sign = [&commit[..signed], &forger.context].concat();
        let signature = sign(&signer, "FramedContentTBS", &to_sign);
        commit[signed..signed + 66].copy_from_slice(&signature);
        let mut bundle = entry.clone();
        bundle.commit = commit.into();
        commit_of(&bundle)
    };
    for (name, want, bytes) in [
        ("that removes alice's leaf", "invalid_proposals 0", other(0)),
        (
            "that removes nobody's leaf",
            "invalid_proposals 0",
            other(1),
        ),
        (
            "that removes a leaf outside the tree",
            "invalid_proposals 0",
            other(9),
        ),
    ] {
        let back = say(&connection, &bytes).await;
        book.exact(&format!("forged: an external Commit {name}"), back, want)
            .await;
    }
}

/// What was told begins as it should, up to a whole word.
pub(super) fn begins(told: &str, want: &str) -> bool {
    told.strip_prefix(want)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ' ']))
}

impl Book {
    /// Notes a case that the room must refuse in just these words, or words that begin so.
    pub(super) async fn exact(&mut self, name: &str, back: Back, want: &str) {
        let right = |back: &Back| told(back).is_some_and(|told| begins(&told, want));
        self.back(name, back, right).await;
    }
}
