//! Claims: what they may ask for, who may make them, by which rules they are answered.

use super::{
    Story,
    claim::{claim_with, request_of},
    names, support,
};
use bytes::Bytes;
use cucumber::{gherkin::Step, given, then, when};
use mimi_actors::{
    ids::{ClientUri, PseudonymUri},
    limits::{CLAIM_USERS_MAX, SHARDS_DEFAULT},
    mls::check::claim::pseudonym_name,
    shard::place,
    wire::{
        BVec,
        claim::{ClaimRequest, ClaimTerms, UserRefused},
        door::{DoorRefused, PackageRefused},
        link,
        post::Note,
    },
};
use mimi_client::{
    door::{DeviceKey, DoorError},
    member::{PackageOptions, new_claim_id},
};
use mimi_operator::protocol::Request;
use mimi_quic::LINK_ALPN;
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialWithKey, KeyPackage, MlsMessageOut,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use support::{raw, room};

/// Restarts a provider with these rules for claims.
async fn restart_with(story: &mut Story, provider: &str, keys: &[(&str, &str)]) {
    story.restart_with(provider, "claims", keys).await;
}

#[given(regex = r"^(\S+\.example) folds its refusals$")]
async fn folds(story: &mut Story, provider: String) {
    restart_with(story, &provider, &[("privacy", "folded")]).await;
}

#[given(regex = r"^(\S+\.example) allows last-resort packages$")]
async fn allows_last_resort(story: &mut Story, provider: String) {
    restart_with(story, &provider, &[("allow_last_resort", "true")]).await;
}

#[given(
    regex = r"^(\S+\.example) lets (one requester|one provider|everybody) claim a user (\d+) times$"
)]
async fn limits(story: &mut Story, provider: String, who: String, times: String) {
    let who = match who.as_str() {
        "one requester" => "requester_on_user",
        "one provider" => "provider_on_user",
        _ => "user",
    };
    let (burst, rate) = (format!("{who}__burst"), format!("{who}__per_minute"));
    restart_with(story, &provider, &[(&burst, &times), (&rate, "1")]).await;
}

#[given(regex = r"^(\S+\.example) lets one (requester|provider) claim (\d+) users of a shard$")]
async fn shard_limits(story: &mut Story, provider: String, who: String, times: String) {
    // A shard has twice its even share of what is configured for all.
    let times = (times.parse::<u16>().unwrap() * SHARDS_DEFAULT / 2).to_string();
    let (burst, rate) = (format!("{who}__burst"), format!("{who}__per_minute"));
    restart_with(story, &provider, &[(&burst, &times), (&rate, "1")]).await;
}

#[given(regex = r"^(\w+) uploaded a last-resort KeyPackage$")]
async fn uploaded_last_resort(story: &mut Story, name: String) {
    let options = PackageOptions {
        last_resort: true,
        ..PackageOptions::default()
    };
    let taken = story.member(&name).upload_with(1, &options).await.unwrap();
    assert_eq!(taken, [Ok(())]);
}

#[given(regex = r"^(\w+) uploaded (\d+) KeyPackages? that supports? the extension (\d+)$")]
async fn uploaded_able(story: &mut Story, name: String, count: usize, extension: u16) {
    let options = PackageOptions {
        extensions: vec![extension],
        ..PackageOptions::default()
    };
    let taken = story.member(&name).upload_with(count, &options).await;
    assert_eq!(taken.unwrap(), vec![Ok(()); count]);
}

#[given(regex = r"^(\w+) uploaded a KeyPackage that lives (\d+) seconds more than the margin$")]
async fn uploaded_short(story: &mut Story, name: String, seconds: u64) {
    let margin_s = mimi_actors::limits::KEY_PACKAGE_SKEW_MS / 1_000;
    let options = PackageOptions {
        lifetime_s: Some(margin_s + seconds),
        ..PackageOptions::default()
    };
    let taken = story.member(&name).upload_with(1, &options).await.unwrap();
    assert_eq!(taken, [Ok(())]);
    story.uploaded_at = Some(Instant::now());
}

#[when(regex = r"^(\d+) seconds have passed since$")]
async fn passed(story: &mut Story, seconds: u64) {
    let then = story.uploaded_at.unwrap() + Duration::from_secs(seconds);
    support::until("the time has come", async || {
        (Instant::now() >= then).then_some(())
    })
    .await;
}

#[given(regex = r"^(\w+) uploaded a KeyPackage of suite 2$")]
async fn uploaded_p256(story: &mut Story, name: String) {
    let member = story.member(&name);
    let package = p256_package(member.client());
    let taken = member.door().unwrap().upload(vec![package]).await.unwrap();
    assert_eq!(taken, [Ok(())]);
}

/// A KeyPackage of suite 2, which a client with a key for Ed25519 alone cannot make.
fn p256_package(client: &ClientUri) -> Bytes {
    let suite = Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;
    let provider = OpenMlsRustCrypto::default();
    let signer = SignatureKeyPair::new(suite.signature_algorithm()).unwrap();
    let credential = CredentialWithKey {
        credential: BasicCredential::new(client.to_string().into_bytes()).into(),
        signature_key: signer.public().into(),
    };
    let capabilities = Capabilities::builder().ciphersuites(vec![suite]).build();
    let package = KeyPackage::builder()
        .leaf_node_capabilities(capabilities)
        .build(suite, &provider, &signer, credential)
        .unwrap();
    MlsMessageOut::from(package.into_key_package())
        .to_bytes()
        .unwrap()
        .into()
}

#[when(regex = r"^(\w+) asks for KeyPackages of (\w+) of the versions ([\d, ]+)$")]
async fn of_versions(story: &mut Story, name: String, list: String, versions: String) {
    let versions = numbers(&versions);
    claim_with(story, &name, &list, |terms| {
        terms.versions = BVec::try_from(versions).unwrap();
    })
    .await;
}

#[when(regex = r"^(\w+) asks for KeyPackages of (\w+) of the suites ([\d, ]+)$")]
async fn of_suites(story: &mut Story, name: String, list: String, suites: String) {
    let suites = numbers(&suites);
    claim_with(story, &name, &list, |terms| {
        terms.ciphersuites = BVec::try_from(suites).unwrap();
    })
    .await;
}

#[when(
    regex = r"^(\w+) asks for KeyPackages of (\w+) that support the (extension|proposal|credential)s ([\d, ]+)$"
)]
async fn able(story: &mut Story, name: String, list: String, what: String, kinds: String) {
    let kinds = BVec::try_from(numbers(&kinds)).unwrap();
    claim_with(story, &name, &list, |terms| match what.as_str() {
        "extension" => terms.required_extensions = kinds,
        "proposal" => terms.required_proposals = kinds,
        _ => terms.required_credentials = kinds,
    })
    .await;
}

fn numbers(list: &str) -> Vec<u16> {
    names(list)
        .iter()
        .map(|text| text.parse().unwrap())
        .collect()
}

#[when(regex = r"^(\w+) claims KeyPackages of (\w+) (\d+) times for the room (\w+) of (\S+)$")]
async fn claims_times(
    story: &mut Story,
    name: String,
    list: String,
    times: usize,
    of: String,
    hub: String,
) {
    for _ in 0..times {
        let den = room(&of, &hub);
        claim_with(story, &name, &list, |terms| terms.room = Some(den)).await;
    }
}

#[when(regex = r"^(\w+) claims KeyPackages of (\d+) users that (\S+) does not know$")]
async fn claims_many(story: &mut Story, name: String, count: usize, provider: String) {
    let users: Vec<String> = (0..count).map(|number| format!("nobody{number}")).collect();
    for user in &users {
        let uri = support::user(user, &provider);
        story.users.insert(user.clone(), uri);
    }
    claim_with(story, &name, &users.join(" "), |_| {}).await;
}

#[then(regex = r"^the claim answers for (\d+) users that they are unknown$")]
fn all_unknown(story: &mut Story, count: usize) {
    let users = &story.claims.last().unwrap().users;
    assert_eq!(users.len(), count);
    let asked = &story.asked.as_ref().unwrap().users;
    assert!(users.iter().map(|row| &row.user).eq(asked.iter()));
    let unknown = Err(UserRefused::Unknown);
    assert!(users.iter().all(|row| row.result == unknown));
}

#[given(regex = r"^(\w+) has a pseudonym at (\S+)$")]
fn has_pseudonym(story: &mut Story, name: String, provider: String) {
    let key = DeviceKey::generate().unwrap();
    let provider = provider.parse().unwrap();
    let pseudonym = PseudonymUri::new(&provider, &pseudonym_name(&key.public())).unwrap();
    story.pseudonym = Some((key, pseudonym));
    assert!(story.members.contains_key(&name));
}

#[given(regex = r"^(\w+) consents to the pseudonym$")]
async fn consents_to_pseudonym(story: &mut Story, name: String) {
    let (_, pseudonym) = story.pseudonym.as_ref().unwrap();
    let request = Request::Consent {
        user: name.clone(),
        requester: pseudonym.clone().into(),
        room: None,
        grant: Some(true),
    };
    let provider = story.user(&name).provider().to_string();
    story.net().node(&provider).ask(&request).await;
}

#[when(regex = r"^(\w+) claims KeyPackages of (\w+) under the pseudonym( with another key)?$")]
async fn claims_hidden(story: &mut Story, name: String, of: String, other: String) {
    let users = BVec::from([story.user(&of)]);
    let (key, pseudonym) = story.pseudonym.as_ref().unwrap();
    let other_key = DeviceKey::generate().unwrap();
    let key = if other.is_empty() { key } else { &other_key };
    let (id, terms) = (new_claim_id().unwrap(), ClaimTerms::new(pseudonym.clone()));
    let proof = key.sign_claim(id, &terms, &users);
    let request = ClaimRequest {
        id,
        terms,
        users,
        proof,
    };
    let door = story.member(&name).door().unwrap();
    let answer = door.claim_signed(request).await.unwrap();
    story.claims.push(answer);
}

#[then(regex = r"^(\w+) cannot claim KeyPackages of (\w+) with a key that is not its device's$")]
async fn foreign_key(story: &mut Story, name: String, of: String) {
    let users = vec![story.user(&of)];
    let request = request_of(story.member(&name), users.clone());
    let other = DeviceKey::generate().unwrap();
    let proof = other.sign_claim(request.id, &request.terms, &request.users);
    let door = story.member(&name).door().unwrap();
    let refused = door.claim_signed(ClaimRequest { proof, ..request }).await;
    let Err(DoorError::Refused(DoorRefused::SenderNotBound { .. })) = refused else {
        panic!("{refused:?}");
    };
}

#[then(
    regex = r"^(\S+) answers a claim of (\w+) of (\w+) and (\w+), who is not its user, for each:$"
)]
async fn foreign_user(
    story: &mut Story,
    provider: String,
    name: String,
    first: String,
    foreign: String,
    step: &Step,
) {
    let users = vec![story.user(&first), story.user(&foreign)];
    assert_ne!(story.user(&foreign).provider().as_str(), provider);
    let peer = story.user(&name).provider().to_string();
    let member = story.member(&name);
    let mut request = request_of(member, users.clone());
    request.proof = member
        .device()
        .sign_claim(request.id, &request.terms, &request.users);
    let request = link::Request::Claim(request);
    let link::Reply::Claimed(answer) = asked_as(story, &peer, &provider, request).await else {
        panic!("no answer to a claim");
    };
    story.claims.push(answer);
    super::claim::answers(story, step);
}

#[given(regex = r"^(\w+) and (\w+) are in different shards$")]
fn different_shards(story: &mut Story, first: String, second: String) {
    let shard = |name: &str| place(&story.user(name).to_string(), SHARDS_DEFAULT);
    assert_ne!(shard(&first), shard(&second));
}

/// A list of users may not be longer, so a right claim is made longer by hand.
#[then(regex = r"^(\S+) does not look at a claim of (\w+) for (\d+) users$")]
async fn too_many_users(story: &mut Story, provider: String, name: String, count: usize) {
    assert_eq!(count, CLAIM_USERS_MAX + 1);
    let user = |number: usize| support::user(&format!("nobody{number:04}"), &provider);
    let users: Vec<_> = (1..count).map(user).collect();
    let request = request_of(story.member(&name), users);
    let right = link::Open::Request(Box::new(link::Request::Claim(request)));
    let mut frame = mimi_actors::wire::encode(&right).to_vec();
    let text = |number: usize| {
        let text = user(number).to_string();
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    let first = text(1);
    let place = frame.windows(first.len()).position(|part| part == first);
    let place = place.expect("the users are there");
    let length = |count: usize| {
        let [low, high] = [count & 0x7f | 0x80, count >> 7];
        [low, high].map(|byte| u8::try_from(byte).unwrap())
    };
    assert_eq!(frame[place - 2..place], length(count - 1));
    frame[place - 2..place].copy_from_slice(&length(count));
    frame.splice(place..place, text(0));
    let peer = story.user(&name).provider().to_string();
    match said_as(story, &peer, &provider, &frame).await {
        link::Reply::Refused(link::LinkRefused::BadFrame(flaw)) => {
            story.print(format!("it is told: {flaw}"));
        }
        other => panic!("{other:?}"),
    }
}

/// What a provider answers to a request in the name of another one.
async fn asked_as(story: &Story, peer: &str, of: &str, request: link::Request) -> link::Reply {
    let open = link::Open::Request(Box::new(request));
    said_as(story, peer, of, &mimi_actors::wire::encode(&open)).await
}

/// The same for a frame.
async fn said_as(story: &Story, peer: &str, of: &str, frame: &[u8]) -> link::Reply {
    let net = story.net();
    let (certificate, key) = (
        net.path(&format!("{peer}.crt")),
        net.path(&format!("{peer}.key")),
    );
    let identity = Some((certificate.as_path(), key.as_path()));
    let dialer = raw::dialer(&net.ca(), LINK_ALPN, identity);
    let connection = raw::connect(&dialer, net.node(of).link, of).await.unwrap();
    let said = raw::frame(frame);
    let raw::Back::Frame(back) = raw::say(&connection, &said).await else {
        panic!("no answer");
    };
    mimi_actors::wire::decode(&back).unwrap()
}

/// A claim that alice's provider would send for her, with one thing wrong, or nothing.
fn forged(story: &mut Story, name: &str, of: &str, wrong: &str) -> ClaimRequest {
    let users = vec![story.user(of)];
    let member = story.member(name);
    let mut request = request_of(member, users.clone());
    request.proof = member
        .device()
        .sign_claim(request.id, &request.terms, &request.users);
    match wrong {
        "without a signature" => request.proof.signatures = BVec::default(),
        "with another's signature" => {
            let other = DeviceKey::generate().unwrap();
            let proof = other.sign_claim(request.id, &request.terms, &request.users);
            request.proof.signatures = proof.signatures;
        }
        "signed for another claim" => request.id = new_claim_id().unwrap(),
        "signed for other terms" => request.terms.ciphersuites = BVec::from([2]),
        _ => panic!("{wrong}"),
    }
    request
}

#[then(regex = r"^(\S+) does not give (\w+) KeyPackages of (\w+):$")]
async fn not_given(story: &mut Story, provider: String, name: String, of: String, step: &Step) {
    let peer = story.user(&name).provider().to_string();
    for row in &step.table.as_ref().expect("a table").rows {
        let claim = forged(story, &name, &of, &row[0]);
        let request = link::Request::Claim(claim);
        let link::Reply::Claimed(answer) = asked_as(story, &peer, &provider, request).await else {
            panic!("no answer to a claim");
        };
        let row = answer.users.iter().next().unwrap();
        assert_eq!(row.result, Err(UserRefused::Unsigned));
    }
}

#[then(
    regex = r"^(\S+) cannot claim KeyPackages of (\w+) in the name of (\w+) for a room of its own$"
)]
async fn relay_forged(story: &mut Story, hub: String, of: String, name: String) {
    let users = vec![story.user(&of)];
    let provider = users[0].provider().to_string();
    let mut request = request_of(story.member(&name), users.clone());
    request.terms.room = Some(room("lair", &hub));
    let key = DeviceKey::generate().unwrap();
    request.proof = key.sign_claim(request.id, &request.terms, &request.users);
    let request = link::Request::Relayed(request);
    let link::Reply::Claimed(answer) = asked_as(story, &hub, &provider, request).await else {
        panic!("no answer to a claim");
    };
    let row = answer.users.iter().next().unwrap();
    assert_eq!(row.result, Err(UserRefused::Unsigned));
}

#[then(regex = r"^(\S+) does not take a claim of (\w+) of (\w+) passed on for a room of (\S+)$")]
async fn relay_not_owner(
    story: &mut Story,
    provider: String,
    name: String,
    of: String,
    hub: String,
) {
    let users = vec![story.user(&of)];
    let peer = story.user(&name).provider().to_string();
    let mut request = request_of(story.member(&name), users);
    request.terms.room = Some(room("den", &hub));
    let request = link::Request::Relayed(request);
    let answer = asked_as(story, &peer, &provider, request).await;
    assert_eq!(answer, link::Reply::Refused(link::LinkRefused::NotOwner));
}

#[given(regex = r"^(\w+) keeps (\d+) KeyPackages in stock$")]
fn keeps(story: &mut Story, name: String, count: usize) {
    story.member(&name).keep_stock(count);
}

#[then(regex = r"^(\w+) is told that (\d+) KeyPackages are left$")]
async fn told_low(story: &mut Story, name: String, left: u32) {
    let low = Note::LowStock { left };
    story
        .wait(&name, "a low stock", |member| {
            member.notes().any(|note| *note == low)
        })
        .await;
    let times = story.member(&name).notes().filter(|note| **note == low);
    assert_eq!(times.count(), 1);
}

#[then(regex = r"^(\w+) is told to replace its last-resort KeyPackage$")]
async fn told_last_resort(story: &mut Story, name: String) {
    story
        .wait(&name, "a used last-resort package", |member| {
            member.notes().any(|note| *note == Note::LastResortUsed)
        })
        .await;
}

#[then(regex = r"^(\w+) is told that (\w+) of (\w+) can be added to the room (\w+) of (\S+)$")]
async fn told_refilled(
    story: &mut Story,
    name: String,
    client: String,
    of: String,
    den: String,
    hub: String,
) {
    let provider = story.user(&of).provider().to_string();
    let refilled = Note::Refilled {
        room: room(&den, &hub),
        client: support::client(&of, &client, &provider),
    };
    story
        .wait(&name, "a refill", |member| {
            member.notes().any(|note| *note == refilled)
        })
        .await;
}

#[then(regex = r"^(\w+)'s uploads are answered:$")]
async fn uploads(story: &mut Story, name: String, step: &Step) {
    let mut stranger = story.net().member("stranger", "phone", "a.example").await;
    let member = story.member(&name);
    let mut make = |options: &PackageOptions| member.key_packages(1, options).unwrap().remove(0);
    let plain = make(&PackageOptions::default());
    let days = |days: u64| PackageOptions {
        lifetime_s: Some(days * 24 * 3_600),
        ..PackageOptions::default()
    };
    let mut unsupported = plain.to_vec();
    unsupported[7] = 4;
    let foreign = stranger.key_packages(1, &PackageOptions::default());
    let packages: BTreeMap<&str, Bytes> = [
        ("a good one", plain.clone()),
        ("the same again", plain),
        ("another client's", foreign.unwrap().remove(0)),
        ("one that lives 401 days", make(&days(401))),
        ("one of suite 4", unsupported.into()),
        ("one that lives 89 days", make(&days(89))),
        ("noise", Bytes::from_static(&[0x5a; 90])),
    ]
    .into();
    let rows = &step.table.as_ref().expect("a table").rows;
    let sent = rows.iter().map(|row| packages[row[0].as_str()].clone());
    let door = member.door().unwrap();
    let answers = door.upload(sent.collect()).await.unwrap();
    assert_eq!(answers.len(), rows.len());
    for (row, answer) in rows.iter().zip(answers) {
        let said = match answer {
            Ok(()) => "taken".to_owned(),
            Err(refused @ (PackageRefused::Invalid { .. } | PackageRefused::Duplicate)) => {
                refused.to_string()
            }
            Err(refused) => panic!("{refused}"),
        };
        assert!(said.contains(&row[1]), "{}: {said}", row[0]);
    }
}

#[then(regex = r"^each of these is refused in the same words, no state of (\S+) changes:$")]
async fn folded(story: &mut Story, provider: String, step: &Step) {
    let hashes = story.net().node(&provider).settled().await;
    let asker = step.table.as_ref().expect("a table").rows[0][0].clone();
    let mut spans = Vec::new();
    for row in &step.table.as_ref().expect("a table").rows {
        let versions = if row.len() > 2 && !row[2].is_empty() {
            numbers(&row[2])
        } else {
            Vec::new()
        };
        let began = Instant::now();
        claim_with(story, &asker, &row[1], |terms| {
            terms.versions = BVec::try_from(versions).unwrap();
        })
        .await;
        spans.push(began.elapsed());
        let answer = story.claims.last().unwrap();
        let results: Vec<_> = answer.users.iter().map(|row| &row.result).collect();
        assert_eq!(results, [&Err(UserRefused::NoConsent)], "{}", row[1]);
    }
    let least = Duration::from_millis(50);
    assert!(spans.len() > 1, "there are several to compare");
    assert!(spans.iter().all(|span| *span >= least), "{spans:?}");
    assert_eq!(hashes, story.net().node(&provider).hashes().await);
}
