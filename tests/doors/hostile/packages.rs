//! KeyPackages with one flaw each, signed by the client that uploads them; and packages that were there before.

use super::{
    forger::{sign, signer_of, vector},
    *,
};
use mimi_actors::{limits::KEY_PACKAGES_PER_CLIENT_MAX, mls::codec::reader::Reader};
use mimi_client::member::packages;
use openmls_basic_credential::SignatureKeyPair;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 24 * 3_600;
/// Longest part of a KeyPackage, in bytes.
const PART_BYTES_MAX: usize = 16 << 10;

/// The parts of a KeyPackage, to be changed and signed anew.
#[derive(Clone)]
struct Package {
    init_key: Vec<u8>,
    encryption_key: Vec<u8>,
    signature_key: Vec<u8>,
    identity: Vec<u8>,
    /// Versions, ciphersuites, extensions, proposals and credentials.
    capabilities: [Vec<u8>; 5],
    /// A KeyPackage's leaf is of source 1.
    source: u8,
    not_before_s: u64,
    not_after_s: u64,
    leaf_extensions: Vec<u8>,
    extensions: Vec<u8>,
}

impl Package {
    fn read(message: &[u8]) -> Self {
        let mut reader = Reader::new(message);
        let part = |reader: &mut Reader<'_>| -> Vec<u8> {
            reader.vector("part", PART_BYTES_MAX).unwrap().to_vec()
        };
        reader.take(8).unwrap();
        let [init_key, encryption_key, signature_key] = [0; 3].map(|_| part(&mut reader));
        assert_eq!(reader.u16().unwrap(), 1, "a basic credential");
        Self {
            init_key,
            encryption_key,
            signature_key,
            identity: part(&mut reader),
            capabilities: [0; 5].map(|_| part(&mut reader)),
            source: reader.u8().unwrap(),
            not_before_s: reader.u64().unwrap(),
            not_after_s: reader.u64().unwrap(),
            leaf_extensions: part(&mut reader),
            extensions: {
                part(&mut reader);
                part(&mut reader)
            },
        }
    }

    fn signed(&self, leaf_by: &SignatureKeyPair, by: &SignatureKeyPair) -> Payload {
        let mut leaf = [
            vector(&self.encryption_key),
            vector(&self.signature_key),
            vec![0, 1],
            vector(&self.identity),
            self.capabilities
                .each_ref()
                .map(|list| vector(list))
                .concat(),
            vec![self.source],
            self.not_before_s.to_be_bytes().to_vec(),
            self.not_after_s.to_be_bytes().to_vec(),
            vector(&self.leaf_extensions),
        ]
        .concat();
        let signature = sign(leaf_by, "LeafNodeTBS", &leaf);
        leaf.extend(signature);
        let package = [
            vec![0, 1, 0, 1],
            vector(&self.init_key),
            leaf,
            vector(&self.extensions),
        ]
        .concat();
        let signature = sign(by, "KeyPackageTBS", &package);
        [&[0, 1, 0, 5][..], &package, &signature].concat().into()
    }
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

pub(super) fn upload(packages: Vec<Payload>) -> Vec<u8> {
    ask(Request::Upload(BVec::try_from(packages).unwrap()))
}

/// Whether every package was refused, and in words that begin so.
pub(super) fn invalid(back: &Back, want: &str) -> bool {
    let Some(Reply::Uploaded(results)) = reply(back) else {
        return false;
    };
    let right = |result: &Result<(), PackageRefused>| match result {
        Err(PackageRefused::Invalid { detail }) => forged::begins(detail, want),
        _ => false,
    };
    results.len() == 1 && results.iter().all(right)
}

fn refused(back: &Back, want: &PackageRefused) -> bool {
    let Some(Reply::Uploaded(results)) = reply(back) else {
        return false;
    };
    results.len() == 1 && results.iter().all(|result| result.as_ref() == Err(want))
}

/// Packages with one flaw each: what is said of them, and what is uploaded.
fn flawed(
    right: &Package,
    signer: &SignatureKeyPair,
) -> Vec<(&'static str, &'static str, Payload)> {
    let with = |change: &dyn Fn(&mut Package)| {
        let mut package = right.clone();
        change(&mut package);
        package.signed(signer, signer)
    };
    let other = SignatureKeyPair::new(signer.signature_scheme()).unwrap();
    let now_s = now_s();
    vec![
        (
            "whose init key is its leaf's key",
            "invalid KeyPackage",
            with(&|package| package.init_key.clone_from(&package.encryption_key)),
        ),
        (
            "without an init key",
            "invalid KeyPackage",
            with(&|package| package.init_key.clear()),
        ),
        (
            "whose init key is cut",
            "invalid KeyPackage",
            with(&|package| package.init_key.truncate(31)),
        ),
        (
            "whose leaf has no key",
            "invalid KeyPackage",
            with(&|package| package.encryption_key.clear()),
        ),
        (
            "of another client, signed by this one",
            "the credential does not name the client that uploads",
            with(&|package| package.identity = client("amy", "phone", A).to_string().into()),
        ),
        (
            "of another device of the user",
            "the credential does not name the client that uploads",
            with(&|package| package.identity = client("mallory", "more", A).to_string().into()),
        ),
        (
            "of the user rather than the client",
            "the credential does not name the client that uploads",
            with(&|package| package.identity = user("mallory", A).to_string().into()),
        ),
        (
            "of nobody",
            "the credential does not name the client that uploads",
            with(&|package| package.identity.clear()),
        ),
        (
            "whose leaf somebody else signed",
            "signature of the leaf is wrong",
            right.signed(&other, signer),
        ),
        (
            "that somebody else signed",
            "signature of the KeyPackage is wrong",
            right.signed(signer, &other),
        ),
        (
            "whose life begins tomorrow",
            "lifetime",
            with(&|package| package.not_before_s = now_s + DAY_S),
        ),
        (
            "whose life ended yesterday",
            "lifetime",
            with(&|package| package.not_after_s = now_s - DAY_S),
        ),
        (
            "that lives until the end of time",
            "lifetime of",
            with(&|package| package.not_after_s = u64::MAX),
        ),
        (
            "whose leaf is of a Commit",
            "malformed KeyPackage",
            with(&|package| package.source = 3),
        ),
        (
            "that does not know its own ciphersuite",
            "invalid KeyPackage: capabilities lack the ciphersuite in use",
            with(&|package| package.capabilities[1] = vec![0, 3]),
        ),
        (
            "that does not know its own version",
            "invalid KeyPackage",
            with(&|package| package.capabilities[0] = vec![0, 9]),
        ),
        (
            "that does not know its own credential",
            "invalid KeyPackage",
            with(&|package| package.capabilities[4] = vec![0, 9]),
        ),
        (
            "with an extension that it does not know",
            "invalid KeyPackage",
            with(&|package| package.leaf_extensions = vec![0xf7, 0x77, 1, 0]),
        ),
        (
            "with one extension twice",
            "malformed KeyPackage",
            with(&|package| package.extensions = [0, 0x0a, 0].repeat(2)),
        ),
        (
            "with 65 extensions",
            "malformed KeyPackage",
            with(&|package| {
                package.extensions = (0..65).flat_map(|kind| [0xf0, kind, 0]).collect();
            }),
        ),
        (
            "with capabilities of 65,536 kinds",
            "malformed KeyPackage",
            with(&|package| package.capabilities[2] = vec![0xf0; 2 << 16]),
        ),
        (
            "with an extension of a megabyte",
            "malformed KeyPackage",
            with(&|package| {
                let large = [&[0xf0, 1][..], &vector(&vec![0; 1 << 20])].concat();
                package.extensions = large;
            }),
        ),
    ]
}

/// Uploads that must not get into the stock.
pub(super) async fn uploads(book: &mut Book, mallory: &mut Member) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let connection = logged_in(book, &dialer, mallory).await;
    let signer = signer_of(&book.net, mallory);
    let made = mallory.key_packages(2, &PackageOptions::default()).unwrap();
    let right = Package::read(&made[0]);
    assert_eq!(right.signed(&signer, &signer).len(), made[0].len());
    for (name, want, package) in flawed(&right, &signer) {
        let back = say(&connection, &upload(vec![package])).await;
        let exact = |back: &Back| invalid(back, want);
        book.back(&format!("upload: a KeyPackage {name}"), back, exact)
            .await;
    }

    let first = Payload::from(made[0].clone());
    let back = say(&connection, &upload(vec![first.clone()])).await;
    assert_eq!(reply(&back), Some(Reply::Uploaded(BVec::from([Ok(())]))));
    book.used("a KeyPackage in stock").await;
    let mut again = right.clone();
    again.encryption_key = Package::read(&made[1]).encryption_key;
    // The same one again is a retry whose first answer was lost: it is there once.
    let back = say(&connection, &upload(vec![first])).await;
    let name = "upload: a KeyPackage that is there already";
    let taken = |back: &Back| reply(back) == Some(Reply::Uploaded(BVec::from([Ok(())])));
    book.back(name, back, taken).await;
    let back = say(&connection, &upload(vec![again.signed(&signer, &signer)])).await;
    let name = "upload: a KeyPackage with an init key that is there already";
    let duplicate = |back: &Back| refused(back, &PackageRefused::Duplicate);
    book.back(name, back, duplicate).await;
    while mallory.upload(50).await.unwrap() == 50 {}
    book.rest().await;
    let back = say(&connection, &upload(vec![Payload::from(made[1].clone())])).await;
    let full = PackageRefused::Full {
        max: u32::try_from(KEY_PACKAGES_PER_CLIENT_MAX).unwrap(),
    };
    let exact = |back: &Back| refused(back, &full);
    book.back("upload: a KeyPackage more than there may be", back, exact)
        .await;
}

/// A package that was given away does not come back, whoever restarts.
pub(super) async fn consumed(book: &mut Book, mallory: &mut Member) {
    let users = [mallory.client().user().clone()];
    let answer = book.alice.claim(None, &users).await.unwrap();
    let given = packages(&answer);
    assert_eq!(given.len(), 1, "{answer:?}");
    book.net.node_mut(A).kill();
    book.net.node_mut(A).start().await;
    book.net.reconnect(&mut book.alice).await;
    book.net.reconnect(mallory).await;
    book.rest().await;
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let connection = logged_in(book, &dialer, mallory).await;
    let back = say(&connection, &upload(given)).await;
    let duplicate = |back: &Back| refused(back, &PackageRefused::Duplicate);
    let name = "upload: a KeyPackage that was given away before a restart";
    book.back(name, back, duplicate).await;
}
